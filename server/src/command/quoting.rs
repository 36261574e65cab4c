//! Arguments inside error texts, as Redis's `%s` shows them: a zero byte ends them.
//! Our error texts are UTF-8, Redis's are bytes: what is no UTF-8 becomes U+FFFD. `docs/compatibility.md` says so.

/// The argument as text.
pub(super) fn quoted(argument: &[u8]) -> String {
    String::from_utf8_lossy(until_zero(argument)).into_owned()
}

/// The argument's bytes before the first zero.
pub(super) fn until_zero(argument: &[u8]) -> &[u8] {
    let end = argument.iter().position(|byte| *byte == 0).unwrap_or(argument.len());
    &argument[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_end_at_a_zero_byte() {
        for (argument, expected) in [(&b""[..], ""), (b"a b", "a b"), (b"a\0b", "a"), (b"\0", ""), (b"a\xffb", "a\u{fffd}b")] {
            assert_eq!(quoted(argument), expected);
        }
    }
}
