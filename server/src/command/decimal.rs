//! Exact decimal numbers, for INCRBYFLOAT.
//! Redis adds in the processor's long double and prints `%.17Lf` without trailing zeros. The same text must come out of every replica, so
//! here the sum is exact and then rounded, half to even, to 17 decimal places. Where a long double is exact enough both agree; elsewhere
//! this is the number Redis aims at.
//! Limits as in Redis: a text has fewer than 5 KiB, and a number is below 10^4932, so that no text makes a long number.

use std::cmp::Ordering;
use std::fmt;

use crate::error::CommandError;

/// Longest text of a number, exclusive (`MAX_LONG_DOUBLE_CHARS`).
const TEXT_BYTES_END: usize = 5 * 1024;
/// Most digits before the point, and roughly the most zeros after it: the range of a long double.
const MAGNITUDE_MAX: i64 = 4932;
/// Digits after the point in a result.
const PLACES: usize = 17;

/// A decimal number, or infinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decimal {
    /// A number.
    Finite(Finite),
    /// `inf`, which parses as in Redis but cannot be added.
    Infinite,
}

/// `digits * 10^exponent`, negated if `negative`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finite {
    negative: bool,
    /// Values 0 to 9, most significant first, without leading zeros; empty for zero.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    pub(super) const ZERO: Decimal = Decimal::Finite(Finite { negative: false, digits: Vec::new(), exponent: 0 });

    /// The number that `strtold` would read from the whole of `text`, hexadecimal ones excepted.
    /// # Errors
    /// `NotAFloat`.
    pub(super) fn parse(text: &[u8]) -> Result<Decimal, CommandError> {
        if text.len() >= TEXT_BYTES_END {
            return Err(CommandError::NotAFloat);
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Ok(Decimal::Infinite);
        }
        let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
            None => (mantissa, &[][..]),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(CommandError::NotAFloat);
        }
        let mut digits = Vec::with_capacity(whole.len() + fraction.len());
        for byte in whole.iter().chain(fraction) {
            match byte {
                b'0' if digits.is_empty() => {}
                b'0'..=b'9' => digits.push(byte - b'0'),
                _ => return Err(CommandError::NotAFloat),
            }
        }
        if digits.is_empty() {
            return Ok(Decimal::ZERO);
        }
        let exponent = exponent - fraction.len() as i64;
        let magnitude = digits.len() as i64 + exponent;
        if magnitude.abs() > MAGNITUDE_MAX {
            return Err(CommandError::NotAFloat);
        }
        Ok(Decimal::Finite(Finite { negative, digits, exponent }))
    }

    /// The sum, rounded.
    /// # Errors
    /// `NanOrInfinity`.
    pub(super) fn add(self, other: Decimal) -> Result<Finite, CommandError> {
        let (Decimal::Finite(first), Decimal::Finite(second)) = (self, other) else { return Err(CommandError::NanOrInfinity) };
        let sum = first.plus(second).rounded();
        if sum.digits.len() as i64 + sum.exponent > MAGNITUDE_MAX {
            return Err(CommandError::NanOrInfinity);
        }
        Ok(sum)
    }
}

/// An exponent; one beyond all limits stays beyond them.
fn parse_exponent(text: &[u8]) -> Result<i64, CommandError> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(CommandError::NotAFloat);
    }
    let size = digits.iter().fold(0, |number, digit| (number * 10 + i64::from(digit - b'0')).min(1_000_000));
    Ok(if negative { -size } else { size })
}

impl Finite {
    fn plus(mut self, mut other: Finite) -> Finite {
        if self.digits.is_empty() {
            return other;
        }
        if other.digits.is_empty() {
            return self;
        }
        // Both get the smaller exponent, then the same number of digits.
        let exponent = self.exponent.min(other.exponent);
        for number in [&mut self, &mut other] {
            let zeros = usize::try_from(number.exponent - exponent).expect("the smaller exponent was chosen");
            number.digits.resize(number.digits.len() + zeros, 0);
        }
        let width = self.digits.len().max(other.digits.len());
        for number in [&mut self, &mut other] {
            let zeros = width - number.digits.len();
            number.digits.splice(0..0, std::iter::repeat_n(0, zeros));
        }
        if self.negative == other.negative {
            return Finite { negative: self.negative, digits: sum_of(&self.digits, &other.digits), exponent };
        }
        match self.digits.cmp(&other.digits) {
            Ordering::Less => Finite { negative: other.negative, digits: difference_of(&other.digits, &self.digits), exponent },
            Ordering::Equal => Finite { negative: false, digits: Vec::new(), exponent: 0 },
            Ordering::Greater => Finite { negative: self.negative, digits: difference_of(&self.digits, &other.digits), exponent },
        }
    }

    /// The nearest number of at most `PLACES` decimal places; of two, the one whose last digit is even.
    fn rounded(mut self) -> Finite {
        let Some(excess) = usize::try_from(-self.exponent).ok().and_then(|places| places.checked_sub(PLACES)).filter(|excess| *excess > 0)
        else {
            return self;
        };
        let missing = excess.saturating_sub(self.digits.len());
        self.digits.splice(0..0, std::iter::repeat_n(0, missing));
        let dropped = self.digits.split_off(self.digits.len() - excess);
        let odd = self.digits.last().is_some_and(|digit| digit % 2 == 1);
        let up = match dropped[0].cmp(&5) {
            Ordering::Less => false,
            Ordering::Equal => odd || dropped[1..].iter().any(|digit| *digit != 0),
            Ordering::Greater => true,
        };
        let mut one = vec![0; self.digits.len()];
        match one.last_mut() {
            Some(last) if up => *last = 1,
            Some(_) => {}
            None if up => return Finite { digits: vec![1], exponent: -(PLACES as i64), ..self },
            None => {}
        }
        Finite { negative: self.negative, digits: sum_of(&self.digits, &one), exponent: -(PLACES as i64) }
    }
}

/// The sum of two numbers of the same number of digits.
fn sum_of(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut digits = vec![0; first.len() + 1];
    let mut carry = 0;
    for at in (0..first.len()).rev() {
        let sum = first[at] + second[at] + carry;
        (digits[at + 1], carry) = (sum % 10, sum / 10);
    }
    digits[0] = carry;
    without_leading_zeros(digits)
}

/// The difference of two numbers of the same number of digits, the larger first.
fn difference_of(larger: &[u8], smaller: &[u8]) -> Vec<u8> {
    let mut digits = vec![0; larger.len()];
    let mut borrow = 0;
    for at in (0..larger.len()).rev() {
        let lent = larger[at] + 10 - smaller[at] - borrow;
        (digits[at], borrow) = (lent % 10, 1 - lent / 10);
    }
    without_leading_zeros(digits)
}

fn without_leading_zeros(mut digits: Vec<u8>) -> Vec<u8> {
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..zeros);
    digits
}

/// Plain decimal notation without trailing zeros and without an exponent.
impl fmt::Display for Finite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text: String = self.digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        match usize::try_from(-self.exponent) {
            Ok(places) => {
                if text.len() <= places {
                    text.insert_str(0, &"0".repeat(places + 1 - text.len()));
                }
                text.insert(text.len() - places, '.');
                text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
            }
            Err(_) => text.push_str(&"0".repeat(usize::try_from(self.exponent).expect("not negative"))),
        }
        let text = if self.digits.is_empty() { "0" } else { &text };
        formatter.write_str(if self.negative && !self.digits.is_empty() { "-" } else { "" })?;
        formatter.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(first: &str, second: &str) -> Result<String, CommandError> {
        Ok(Decimal::parse(first.as_bytes())?.add(Decimal::parse(second.as_bytes())?)?.to_string())
    }

    #[test]
    fn sums_are_exact_to_seventeen_places() {
        for (first, second, expected) in [
            ("10.50", "0.1", "10.6"),
            ("10.6", "-5", "5.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0", "0", "0"),
            ("-0", "-0.0", "0"),
            ("1.5", "-1.5", "0"),
            ("0.1", "0.2", "0.3"),
            ("1000.1", "0.1", "1000.2"),
            ("-1", "0.25", "-0.75"),
            ("1", "-3", "-2"),
            ("100", "900", "1000"),
            ("1e2", "1e-2", "100.01"),
            (".5", "5.", "5.5"),
            ("+1", "+1E+1", "11"),
            ("123456789012345678901234567890", "0.00000000000000001", "123456789012345678901234567890.00000000000000001"),
            ("0", "0.000000000000000005", "0"),
            ("0.00000000000000001", "0.000000000000000005", "0.00000000000000002"),
            ("0.00000000000000002", "0.000000000000000005", "0.00000000000000002"),
            ("0", "0.0000000000000000051", "0.00000000000000001"),
            ("0", "-0.000000000000000004", "0"),
            ("0", "0.0000000000000000000009", "0"),
            ("0.99999999999999999", "0.000000000000000009", "1"),
            ("0", "1e-4000", "0"),
            ("-7", "0", "-7"),
            ("1e20", "0", "100000000000000000000"),
        ] {
            assert_eq!(sum(first, second).as_deref(), Ok(expected), "{first} + {second}");
            assert_eq!(sum(second, first).as_deref(), Ok(expected), "{second} + {first}");
        }
    }

    #[test]
    fn only_decimal_numbers_are_floats() {
        let long = "1".repeat(TEXT_BYTES_END);
        let bad = [
            "",
            "-",
            "+",
            ".",
            "e5",
            "1e",
            "1e+",
            "1.2.3",
            "abc",
            "1 ",
            " 1",
            "--1",
            "nan",
            "0x10",
            "1e5000",
            "1e-99999999999999999999",
            "1_0",
        ];
        for text in bad.into_iter().chain([&*long]) {
            assert_eq!(Decimal::parse(text.as_bytes()), Err(CommandError::NotAFloat), "{text}");
        }
        for text in ["0e99999999999", "INF", "-Infinity"] {
            assert!(Decimal::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn sums_beyond_the_range_are_refused() {
        let greatest = format!("9{}", "0".repeat(4931));
        assert_eq!(sum(&greatest, "1e4931"), Err(CommandError::NanOrInfinity));
        assert_eq!(sum("inf", "1"), Err(CommandError::NanOrInfinity));
        let result = sum(&greatest, "0.1").expect("in range");
        assert!(result.len() < TEXT_BYTES_END && sum(&result, "1").is_ok(), "a result is a number again");
    }
}
