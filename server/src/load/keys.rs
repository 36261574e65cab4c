//! Names of keys: a prefix, and the key's number with leading zeros, so that all keys have the same length.
//! At the default length they are those of redis-benchmark, so that each program can ask for what the other has written.

use bytes::BytesMut;

/// Digits of redis-benchmark's keys.
const DIGITS_DEFAULT: usize = 12;
/// Digits of the largest number there is.
const DIGITS_MAX: usize = 20;

/// How a key is written as an argument: all but the last digits of its number is the same for every key.
#[derive(Clone, Debug)]
pub(super) struct KeyForm {
    /// The argument's header, the prefix and the zeros that every number has.
    head: Vec<u8>,
    /// Digits that differ.
    digits: usize,
}

impl KeyForm {
    /// Names for so many keys; of the default length if none is given.
    /// # Errors
    /// They do not fit into that length: the least length that they need.
    pub(super) fn new(prefix: &str, keys: u64, key_bytes: Option<usize>) -> Result<KeyForm, usize> {
        let digits = keys.saturating_sub(1).max(1).ilog10() as usize + 1;
        let needed = prefix.len() + digits;
        let key_bytes = key_bytes.unwrap_or_else(|| needed.max(prefix.len() + DIGITS_DEFAULT));
        if key_bytes < needed {
            return Err(needed);
        }
        let head = format!("${key_bytes}\r\n{prefix}{}", "0".repeat(key_bytes - needed)).into_bytes();
        Ok(KeyForm { head, digits })
    }

    /// Appends the key as an argument of a command.
    pub(super) fn append(&self, number: u64, out: &mut BytesMut) {
        let mut text = [0; DIGITS_MAX];
        let digits = &mut text[..self.digits];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        debug_assert_eq!(rest, 0, "the form has room for every key");
        out.extend_from_slice(&self.head);
        out.extend_from_slice(digits);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_have_the_length_asked_for() {
        let check = |keys, key_bytes, number, expected: &str| {
            let form = KeyForm::new("key:", keys, key_bytes).expect("fits");
            let mut out = BytesMut::new();
            form.append(number, &mut out);
            assert_eq!(out, format!("${}\r\n{expected}\r\n", expected.len()).as_bytes());
        };
        check(100_000, None, 7, "key:000000000007");
        check(100_000, None, 99_999, "key:000000099999");
        check(1, None, 0, "key:000000000000");
        check(100_000, Some(9), 42, "key:00042");
        check(100_001, Some(10), 100_000, "key:100000");
        check(10, Some(5), 9, "key:9");
        check(u64::MAX, None, u64::MAX - 1, "key:18446744073709551614");
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        assert_eq!(KeyForm::new("key:", 100_000, Some(8)).expect_err("too short"), 9);
        assert_eq!(KeyForm::new("key:", 100_001, Some(9)).expect_err("too short"), 10);
        assert_eq!(KeyForm::new("key:", 1, Some(0)).expect_err("too short"), 5);
    }
}
