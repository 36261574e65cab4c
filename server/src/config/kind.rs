//! Kinds of option values: how a value is read from text, what is allowed, and how it is written back.
//! Every source of options (flag, environment, file, `CONFIG SET`) hands text to `Kind::parse`, so a value means the same everywhere.
//! Sizes take Redis's units: `1k` is 1000, `1kb` is 1024, and so on with `m` and `g`; `b` or nothing is bytes.

use super::address::{Address, is_host_name};

/// Longest secret accepted, in bytes; Redis's limit for passwords.
pub(super) const SECRET_BYTES_MAX: usize = 512;
/// Hex digits in a cluster id.
const CLUSTER_ID_DIGITS: usize = 40;
/// Letters that `notify-keyspace-events` takes, in the order in which Redis writes them back; `A` stands for the first `EVENT_ALL`.
const EVENT_LETTERS: &str = "g$lshzxetdnKEm";
/// How many of `EVENT_LETTERS` are covered by `A`.
const EVENT_ALL: usize = 10;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Plain,
    /// Thousandths of a second.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Bytes; the only unit whose values may carry a suffix.
    Bytes,
}

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number within bounds, both included.
    Number {
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// What it counts.
        unit: Unit,
    },
    /// `yes` or `no`.
    Flag,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A path of a file or directory; not empty.
    Path,
    /// One `HOST:PORT`.
    Address,
    /// One `HOST:PORT`, or nothing.
    OptionalAddress,
    /// Any number of `HOST:PORT`, separated by commas.
    Addresses,
    /// Any number of host names, separated by commas.
    HostNames,
    /// The 40 hex digits that name a cluster, or nothing.
    ClusterId,
    /// A text that is never shown; empty means none.
    Secret,
    /// Redis's letters for classes of keyspace events.
    EventClasses,
    /// A text that is only ever reported.
    Reported,
}

/// A value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of `Number`.
    Number(u64),
    /// Of `Flag`.
    Flag(bool),
    /// Of `Choice`, `Path`, `HostNames`, `ClusterId`, `Secret`, `EventClasses` and `Reported`.
    Text(String),
    /// Of the three kinds of addresses.
    Addresses(Vec<Address>),
}

/// Why a text is no value of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It does not have the form of such a value.
    Form,
    /// It is a number outside the bounds.
    Range,
}

impl Kind {
    /// Reads a value.
    /// # Errors
    /// The text is no value of this kind; `allowed` tells the operator what is, `reply` a client.
    pub fn parse(&self, text: &str) -> Result<Value, Rejection> {
        match self {
            Self::Number { min, max, unit } => {
                let number = if *unit == Unit::Bytes { parse_size(text) } else { parse_integer(text) }.ok_or(Rejection::Form)?;
                let number = u64::try_from(number).map_err(|_| Rejection::Range)?;
                if number < *min || number > *max { Err(Rejection::Range) } else { Ok(Value::Number(number)) }
            }
            // `true` and `false` are what YAML and templates make of `yes` and `no`.
            Self::Flag => match text.to_ascii_lowercase().as_str() {
                "yes" | "true" => Ok(Value::Flag(true)),
                "no" | "false" => Ok(Value::Flag(false)),
                _ => Err(Rejection::Form),
            },
            Self::Choice(words) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(text)).ok_or(Rejection::Form)?;
                Ok(Value::Text((*word).to_owned()))
            }
            Self::Path => {
                if text.is_empty() || text.contains('\0') {
                    Err(Rejection::Form)
                } else {
                    Ok(Value::Text(text.to_owned()))
                }
            }
            Self::Address => Ok(Value::Addresses(vec![Address::parse(text).ok_or(Rejection::Form)?])),
            Self::OptionalAddress if text.is_empty() => Ok(Value::Addresses(Vec::new())),
            Self::OptionalAddress => Self::Address.parse(text),
            Self::Addresses if text.is_empty() => Ok(Value::Addresses(Vec::new())),
            Self::Addresses => {
                let addresses: Option<Vec<Address>> = text.split(',').map(|part| Address::parse(part.trim())).collect();
                addresses.map(Value::Addresses).ok_or(Rejection::Form)
            }
            Self::HostNames if text.is_empty() => Ok(Value::Text(String::new())),
            Self::HostNames => {
                let names: Vec<String> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
                if names.iter().all(|name| is_host_name(name)) { Ok(Value::Text(names.join(","))) } else { Err(Rejection::Form) }
            }
            Self::ClusterId => {
                let named = text.len() == CLUSTER_ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
                if named || text.is_empty() { Ok(Value::Text(text.to_ascii_lowercase())) } else { Err(Rejection::Form) }
            }
            Self::Secret => {
                if text.len() > SECRET_BYTES_MAX {
                    Err(Rejection::Form)
                } else {
                    Ok(Value::Text(text.to_owned()))
                }
            }
            Self::EventClasses => parse_event_classes(text).map(Value::Text).ok_or(Rejection::Form),
            Self::Reported => Ok(Value::Text(text.to_owned())),
        }
    }

    /// What is allowed, as the end of "`x` is not ...".
    #[must_use]
    pub fn allowed(&self) -> String {
        match self {
            Self::Number { min, max, unit: Unit::Plain } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max, unit: Unit::Milliseconds } => format!("a whole number of milliseconds from {min} to {max}"),
            Self::Number { min, max, unit: Unit::Seconds } => format!("a whole number of seconds from {min} to {max}"),
            Self::Number { min, max, unit: Unit::Bytes } => format!("a size from {} to {}", size_text(*min), size_text(*max)),
            Self::Flag => "yes or no".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Path => "a path".to_owned(),
            Self::Address | Self::OptionalAddress => "HOST:PORT with a port from 1 to 65535".to_owned(),
            Self::Addresses => "a list of HOST:PORT, separated by commas, with ports from 1 to 65535".to_owned(),
            Self::HostNames => "a list of host names, separated by commas and without ports".to_owned(),
            Self::ClusterId => format!("a cluster id, which has {CLUSTER_ID_DIGITS} hex digits"),
            Self::Secret => format!("a secret of at most {SECRET_BYTES_MAX} bytes"),
            Self::EventClasses => "a set of event classes out of Ag$lshzxeKEtmdn".to_owned(),
            Self::Reported => "a text".to_owned(),
        }
    }

    /// What Redis's `CONFIG SET` answers to a rejected value.
    #[must_use]
    pub fn reply(&self, rejection: Rejection) -> String {
        match (self, rejection) {
            (Self::Number { min, max, .. }, Rejection::Range) => format!("argument must be between {min} and {max} inclusive"),
            (Self::Number { unit: Unit::Bytes, .. }, Rejection::Form) => "argument must be a memory value".to_owned(),
            (Self::Number { .. }, Rejection::Form) => "argument couldn't be parsed into an integer".to_owned(),
            (Self::Flag, _) => "argument must be 'yes' or 'no'".to_owned(),
            (Self::Choice(words), _) => format!("argument(s) must be one of the following: {}", words.join(", ")),
            (Self::EventClasses, _) => "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned(),
            (
                Self::Path
                | Self::Address
                | Self::OptionalAddress
                | Self::Addresses
                | Self::HostNames
                | Self::ClusterId
                | Self::Secret
                | Self::Reported,
                _,
            ) => {
                format!("argument must be {}", self.allowed())
            }
        }
    }

    /// Placeholder of the value in `--help`.
    #[must_use]
    pub const fn placeholder(&self) -> &'static str {
        match self {
            Self::Number { unit: Unit::Plain, .. } => "N",
            Self::Number { unit: Unit::Milliseconds, .. } => "MS",
            Self::Number { unit: Unit::Seconds, .. } => "SECONDS",
            Self::Number { unit: Unit::Bytes, .. } => "BYTES",
            Self::Flag => "yes|no",
            Self::Choice(_) => "WORD",
            Self::Path => "PATH",
            Self::Address | Self::OptionalAddress | Self::Addresses => "HOST:PORT",
            Self::HostNames => "HOST",
            Self::ClusterId => "ID",
            Self::Secret => "SECRET",
            Self::EventClasses => "LETTERS",
            Self::Reported => "TEXT",
        }
    }
}

impl Value {
    /// The value as `CONFIG GET` shows it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Flag(true) => "yes".to_owned(),
            Self::Flag(false) => "no".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Addresses(addresses) => addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

/// A size with the largest unit that divides it: `64mb`.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    // Redis knows no unit above gb.
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Reads a decimal integer with an optional minus. A number too large for the type counts as the greatest, to be refused as out of range.
fn parse_integer(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(i128::MAX))
}

/// Reads a size with Redis's units.
fn parse_size(text: &str) -> Option<i128> {
    let digits_end = text.rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
    let (digits, unit) = text.split_at(digits_end);
    let factor: i128 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    parse_integer(digits).map(|number| number.saturating_mul(factor))
}

/// Reads Redis's event letters and puts them into the order in which Redis reports them.
fn parse_event_classes(text: &str) -> Option<String> {
    if !text.chars().all(|c| c == 'A' || EVENT_LETTERS.contains(c)) {
        return None;
    }
    let (all, rest) = EVENT_LETTERS.split_at(EVENT_ALL);
    let given = |c: &char| text.contains(*c);
    let complete = text.contains('A') || all.chars().all(|c| text.contains(c));
    let mut letters: String = if complete { "A".to_owned() } else { all.chars().filter(given).collect() };
    letters.extend(rest.chars().filter(given));
    Some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Kind = Kind::Number { min: 1, max: 1 << 40, unit: Unit::Bytes };
    const COUNT: Kind = Kind::Number { min: 2, max: 9, unit: Unit::Plain };

    #[test]
    fn sizes_take_redis_units() {
        let check = |text: &str, expected: Result<u64, Rejection>| assert_eq!(SIZE.parse(text), expected.map(Value::Number), "{text}");
        check("1", Ok(1));
        check("7b", Ok(7));
        check("1k", Ok(1_000));
        check("1kb", Ok(1_024));
        check("3M", Ok(3_000_000));
        check("3Mb", Ok(3 << 20));
        check("2g", Ok(2_000_000_000));
        check("2GB", Ok(2 << 30));
        check("0", Err(Rejection::Range));
        check("-1kb", Err(Rejection::Range));
        check("1025gb", Err(Rejection::Range));
        check("99999999999999999999999999999999999999999999gb", Err(Rejection::Range));
        for text in ["", "kb", "1tb", "1.5mb", "1 mb", "1kbb", "0x10", "--1", "1k1b", "é"] {
            check(text, Err(Rejection::Form));
        }
    }

    #[test]
    fn sizes_are_written_so_that_they_read_back() {
        for (bytes, text) in [(0, "0"), (1, "1"), (1000, "1000"), (1024, "1kb"), (64 << 20, "64mb"), (1 << 40, "1024gb"), (1025, "1025")] {
            assert_eq!(size_text(bytes), text);
            assert_eq!(parse_size(text), Some(i128::from(bytes)));
        }
    }

    #[test]
    fn numbers_keep_their_bounds() {
        for (text, expected) in [
            ("2", Ok(2)),
            ("9", Ok(9)),
            ("1", Err(Rejection::Range)),
            ("10", Err(Rejection::Range)),
            ("-3", Err(Rejection::Range)),
            ("3kb", Err(Rejection::Form)),
            ("+3", Err(Rejection::Form)),
            (" 3", Err(Rejection::Form)),
            ("", Err(Rejection::Form)),
        ] {
            assert_eq!(COUNT.parse(text), expected.map(Value::Number), "{text}");
        }
    }

    #[test]
    fn words_flags_ids_and_lists_are_checked() {
        let check = |kind: Kind, text: &str, expected: Option<&str>| {
            assert_eq!(kind.parse(text).ok().map(|value| value.text()).as_deref(), expected, "{kind:?} {text}");
        };
        check(Kind::Flag, "yes", Some("yes"));
        check(Kind::Flag, "FALSE", Some("no"));
        check(Kind::Flag, "1", None);
        check(Kind::Choice(&["local", "linearizable"]), "LOCAL", Some("local"));
        check(Kind::Choice(&["local"]), "", None);
        check(Kind::Path, "", None);
        check(Kind::Path, "a\0b", None);
        check(Kind::Address, "", None);
        check(Kind::OptionalAddress, "", Some(""));
        check(Kind::OptionalAddress, "h:1", Some("h:1"));
        check(Kind::Addresses, "a:1, b:2", Some("a:1,b:2"));
        check(Kind::Addresses, "a:1,,b:2", None);
        check(Kind::HostNames, "", Some(""));
        check(Kind::HostNames, "a, B.example", Some("a,b.example"));
        for text in ["a,", "a:1", "a b", "[::1]", "*.example"] {
            check(Kind::HostNames, text, None);
        }
        check(Kind::ClusterId, &"aB".repeat(20), Some(&"ab".repeat(20)));
        check(Kind::ClusterId, &"ab".repeat(19), None);
        check(Kind::ClusterId, &"xy".repeat(20), None);
        check(Kind::Secret, &"s".repeat(512), Some(&"s".repeat(512)));
        check(Kind::Secret, &"s".repeat(513), None);
    }

    #[test]
    fn event_classes_are_reported_in_redis_order() {
        for (text, expected) in [("", Some("")), ("KEA", Some("AKE")), ("mEKg$n", Some("g$nKEm")), ("td$lshzxeg", Some("A")), ("Q", None)] {
            assert_eq!(parse_event_classes(text).as_deref(), expected, "{text}");
        }
    }
}
