//! Integers in arguments and stored values, read as strictly as Redis's `string2ll` does.

use crate::error::CommandError;

/// A signed 64-bit integer in its one canonical spelling: no sign but `-`, no leading zeros, no spaces.
/// # Errors
/// `NotAnInteger`.
pub(super) fn integer(text: &[u8]) -> Result<i64, CommandError> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return Err(CommandError::NotAnInteger);
    }
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(CommandError::NotAnInteger)
}

/// A number of a database, as COPY and MOVE take it. Whether the database exists is checked too.
/// # Errors
/// `NotAnInteger`, `IntegerOutOfRange` or `DbOutOfRange`.
pub(super) fn database(text: &[u8]) -> Result<u8, CommandError> {
    let number = i32::try_from(integer(text)?).map_err(|_| CommandError::IntegerOutOfRange)?;
    match u8::try_from(number) {
        Ok(db) if db < crate::keyspace::DATABASES => Ok(db),
        Ok(_) | Err(_) => Err(CommandError::DbOutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_accepts_the_canonical_spelling_only() {
        for (text, expected) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("-7", Some(-7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
            ("1e3", None),
        ] {
            assert_eq!(integer(text.as_bytes()).ok(), expected, "{text}");
        }
    }

    #[test]
    fn database_must_exist() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("15", Ok(15)),
            ("16", Err(CommandError::DbOutOfRange)),
            ("-1", Err(CommandError::DbOutOfRange)),
            ("300", Err(CommandError::DbOutOfRange)),
            ("4294967296", Err(CommandError::IntegerOutOfRange)),
            ("x", Err(CommandError::NotAnInteger)),
        ] {
            assert_eq!(database(text.as_bytes()), expected, "{text}");
        }
    }
}
