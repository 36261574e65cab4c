//! Where the two servers may differ: the whole list. Each entry stands in `docs/compatibility.md` in the words given here, and one that a
//! long run never needed makes the run fail.

use bytes::Bytes;
use resp::Value;

use super::wire::decoded;

/// A command and what both servers answered.
pub(super) struct Exchange<'a> {
    /// As COMMAND LIST has it.
    pub(super) name: &'a str,
    pub(super) args: &'a [Bytes],
    pub(super) redis: &'a [u8],
    pub(super) redraft: &'a [u8],
}

const CLUSTER_DISABLED: &[u8] = b"-ERR This instance has cluster support disabled\r\n";

/// Decimal digits that a long double holds in any case.
const SIGNIFICANT_DIGITS: usize = 17;

/// One difference.
#[derive(Debug)]
pub struct Difference {
    /// The command, or `*` for all.
    pub command: &'static str,
    /// What `docs/compatibility.md` says of it.
    pub documented: &'static str,
    /// Whether the replies differ in this way, and no other.
    holds: fn(&Exchange<'_>) -> bool,
}

/// All differences.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        command: "*",
        documented: "Where an error text repeats an argument, bytes that are no UTF-8 are shown as U+FFFD.",
        holds: |exchange| exchange.redis.starts_with(b"-") && String::from_utf8_lossy(exchange.redis).as_bytes() == exchange.redraft,
    },
    Difference {
        command: "incrbyfloat",
        documented: "The sum is exact in decimal, to 17 places after the point.",
        holds: |exchange| match (sum(exchange.redis), sum(exchange.redraft), exchange.args.get(2).and_then(|by| number(by))) {
            (Some(redis), Some(redraft), Some(by)) => is_rounded(&redis, &redraft, by),
            _ => false,
        },
    },
    Difference {
        command: "incrbyfloat",
        documented: "Hexadecimal numbers are refused.",
        holds: |exchange| {
            let is_hexadecimal = exchange.args.get(2).is_some_and(|by| by.starts_with(b"0x"));
            let is_taken = sum(exchange.redis).is_some() || exchange.redis == b"-ERR increment would produce NaN or Infinity\r\n";
            is_hexadecimal && is_taken && exchange.redraft == b"-ERR value is not a valid float\r\n"
        },
    },
    Difference { command: "readonly", documented: "Accepted without cluster mode", holds: accepts_cluster_mode },
    Difference { command: "readwrite", documented: "Accepted without cluster mode", holds: accepts_cluster_mode },
    Difference {
        command: "keys",
        documented: "Ranges in patterns, as in `[a-z]`, go by bytes from 0 to 255; in Redis those from 128 on are negative on some processors.",
        holds: |exchange| {
            let is_high = |range: &[u8]| range[1] == b'-' && (range[0] >= 128 || range[2] >= 128);
            let has_high_range = exchange.args.get(1).is_some_and(|pattern| pattern.windows(3).any(is_high));
            has_high_range && exchange.redis.starts_with(b"*") && exchange.redraft.starts_with(b"*")
        },
    },
    Difference {
        command: "cluster",
        documented: "Always an error: `This instance has cluster support disabled`.",
        holds: |exchange| exchange.redraft == CLUSTER_DISABLED,
    },
    Difference {
        command: "config|rewrite",
        documented: "Always an error: the configuration file is the operator's.",
        holds: |exchange| {
            exchange.redis == b"-ERR The server is running without a config file\r\n"
                && exchange.redraft.starts_with(b"-ERR CONFIG REWRITE is not supported")
        },
    },
];

/// The first difference that holds.
pub(super) fn find(exchange: &Exchange<'_>) -> Option<usize> {
    DIFFERENCES.iter().position(|entry| (entry.command == "*" || entry.command == exchange.name) && (entry.holds)(exchange))
}

fn accepts_cluster_mode(exchange: &Exchange<'_>) -> bool {
    exchange.redis == CLUSTER_DISABLED && exchange.redraft == b"+OK\r\n"
}

/// The digits that INCRBYFLOAT answers.
fn sum(reply: &[u8]) -> Option<Bytes> {
    match decoded(reply)? {
        Value::Bulk(text) => number(&text).map(|_| text),
        _ => None,
    }
}

/// Whether two sums differ by what a long double loses. That is in proportion to the operands, of which one is `by` and the other no
/// larger than `by` and the sum; numbers beyond a double must have the same length and the same beginning.
fn is_rounded(redis: &Bytes, redraft: &Bytes, by: f64) -> bool {
    match (number(redis), number(redraft)) {
        (Some(first), Some(second)) if first.is_finite() && second.is_finite() => {
            (first - second).abs() <= (first.abs() + by.abs()) * 1e-15
        }
        (Some(_), Some(_)) => redis.len() == redraft.len() && redis[..SIGNIFICANT_DIGITS] == redraft[..SIGNIFICANT_DIGITS],
        _ => false,
    }
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
