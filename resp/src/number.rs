//! Numbers as the protocol spells them: lengths and counts in headers, integers and doubles in replies.
//! The spelling is Redis 7.2's (`string2ll` and `d2string` in its `util.c`): a reply must not differ from Redis in a byte.

use std::fmt::Write;

use bytes::BytesMut;

/// Up to this magnitude Redis writes a double without a fraction as an integer.
const INTEGRAL_DOUBLE_MAX: f64 = (1i64 << 62) as f64;

/// Reads an integer as strictly as Redis: decimal, no plus sign, no leading zeros, no minus zero, no spaces.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => text == b"0",
    };
    if !canonical {
        return None;
    }
    // Fails only by overflow: what is not a canonical integer was refused above.
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Appends an integer. No allocation but the growth of `out`, and no formatting machinery: most replies carry one.
pub(crate) fn write_integer(value: i64, out: &mut BytesMut) {
    let mut text = [0; "-9223372036854775808".len()];
    let mut start = text.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        start -= 1;
        text[start] = b'-';
    }
    out.extend_from_slice(&text[start..]);
}

/// A double as Redis 7.2 writes it: the fewest digits that read back as the same value, plain where that is short, else with an
/// exponent.
#[must_use]
pub fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_string();
    }
    if value.is_infinite() || value == 0.0 {
        return value.to_string();
    }
    if value.fract() == 0.0 && value.abs() <= INTEGRAL_DOUBLE_MAX {
        // All digits: the shortest ones would end in zeros above 2^53.
        return (value as i64).to_string();
    }

    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
    // The value is an integer of `digits` digits times ten to the power of `scale`. The bounds below are fpconv's, which Redis uses.
    let scale = exponent + 1 - digits;
    let plain = if scale >= 0 { exponent < digits + 7 } else { scale > -7 || exponent.abs() < 4 };
    if plain {
        return value.to_string();
    }
    let mut text = mantissa.to_string();
    write!(text, "e{exponent:+}").expect("a string grows as needed");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_strictly_as_redis_reads_them() {
        let check = |text: &str, expected| assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        check("0", Some(0));
        check("7", Some(7));
        check("-10", Some(-10));
        check("9223372036854775807", Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN));
        for text in ["", "-", "+1", "01", "-0", "-01", "00", "1 ", " 1", "1a", "a", "--1", "0x10", "1.0", "9223372036854775808"] {
            check(text, None);
        }
    }

    #[test]
    fn integers_are_written_in_full() {
        for value in [0, 1, -1, 9, 10, -10, 12345, i64::MAX, i64::MIN] {
            let mut out = BytesMut::new();
            write_integer(value, &mut out);
            assert_eq!(out, value.to_string());
            assert_eq!(parse_integer(&out), Some(value));
        }
    }

    #[test]
    fn doubles_are_written_as_redis_writes_them() {
        let check = |value: f64, expected| assert_eq!(double_text(value), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(3.0, "3");
        check(-17.0, "-17");
        check(2.75, "2.75");
        check(-0.5, "-0.5");
        check(0.1, "0.1");
        check(0.30000000000000004, "0.30000000000000004");
        check(1e17, "100000000000000000");
        check(4611686018427387904.0, "4611686018427387904");
        check(123456789012345680000.0, "123456789012345680000");
        check(1e20, "1e+20");
        check(-1.5e300, "-1.5e+300");
        check(f64::MAX, "1.7976931348623157e+308");
        check(5e-324, "5e-324");
        check(0.0001, "0.0001");
        check(0.000001, "0.000001");
        check(1e-7, "1e-7");
        check(1.5e-7, "1.5e-7");
        check(0.00012345678, "1.2345678e-4");
        check(0.0012345678, "0.0012345678");
        check(f64::INFINITY, "inf");
        check(f64::NEG_INFINITY, "-inf");
        check(f64::NAN, "nan");
    }
}
