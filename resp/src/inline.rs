//! Arguments of an inline command: a line that a person typed, split at blanks, with quotes.
//! The rules are those of `sdssplitargs` in Redis. An argument that contains a quote goes on to the closing one, which must be the
//! argument's end. Double quotes know the escapes `\n \r \t \b \a \xHH`, and a backslash before any other byte means that byte;
//! single quotes know `\'` only. A zero byte is a byte like any other here, where Redis takes it for the end of the line.
//! The command line's client splits its lines so, too, as redis-cli does.

use bytes::Bytes;

/// The arguments on a line, copied out of it; `None` if a quote is not closed or something follows a closing quote.
#[must_use]
pub fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut arguments = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(arguments);
        }
        let argument;
        (argument, rest) = take_argument(rest)?;
        arguments.push(Bytes::from(argument));
    }
}

/// The blanks of C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The argument at the start of `rest`, and what follows it.
fn take_argument(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut argument = Vec::new();
    loop {
        match rest {
            // Vertical tabs and form feeds separate arguments only in front of one: so does Redis.
            [] | [b' ' | b'\t' | b'\n' | b'\r', ..] => return Some((argument, rest)),
            [quote @ (b'"' | b'\''), quoted @ ..] => {
                rest = take_quoted(*quote, quoted, &mut argument)?;
                return rest.first().is_none_or(|byte| is_blank(*byte)).then_some((argument, rest));
            }
            [byte, tail @ ..] => {
                argument.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Appends what stands before the closing quote, and returns what stands after it.
fn take_quoted<'a>(quote: u8, mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [] => return None,
            [byte, tail @ ..] if *byte == quote => return Some(tail),
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => (b'\'', tail),
            [b'\\', b'x', high, low, tail @ ..] if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), tail)
            }
            [b'\\', escaped, tail @ ..] if quote == b'"' => (unescaped(*escaped), tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        argument.push(byte);
        rest = tail;
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

fn unescaped(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_into_arguments() {
        let check = |line: &[u8], expected: &[&[u8]]| assert_eq!(split(line).unwrap(), expected, "{}", line.escape_ascii());
        check(b"", &[]);
        check(b" \t\r\n\x0b\x0c", &[]);
        check(b"PING", &[b"PING"]);
        check(b"  SET  key\tvalue ", &[b"SET", b"key", b"value"]);
        check(b"a\x0bb \x0bc", &[b"a\x0bb", b"c"]);
        check(b"a\0b", &[b"a\0b"]);
        check(b"\xff\xfe", &[b"\xff\xfe"]);
        check(br#""" ''"#, &[b"", b""]);
        check(br#""a b" 'c d'"#, &[b"a b", b"c d"]);
        check(br#"a"b c""#, &[b"ab c"]);
        check(br#""it's" 'say "x"'"#, &[b"it's", br#"say "x""#]);
        check(br#""\n\r\t\b\a\\\"\q""#, &[b"\n\r\t\x08\x07\\\"q"]);
        check(br#""\x00\xfF\x1g\x""#, &[b"\x00\xffx1gx"]);
        check(br#"'it\'s \n \x41'"#, &[br"it's \n \x41"]);
        check(br"\n \x41 a\", &[br"\n", br"\x41", br"a\"]);
        check(b"\"a\"\x0bb", &[b"a", b"b"]);
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#"""#, "'", r#""a"#, "'a", r#"a"b"#, r#""a"b"#, "'a'b", r#""a""b""#, r#""a\""#, r"'a\'", r#""a\"#, r#""\x4"#] {
            assert_eq!(split(line.as_bytes()), None, "{line}");
        }
    }
}
