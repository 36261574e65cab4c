//! Whether two replies are the same, as far as they must be.
//! Byte for byte, but for what depends on the moment, on chance, or on the order in which a server keeps its keys. Errors are always compared
//! byte for byte.

use bytes::Bytes;
use resp::Value;

use super::wire::decoded;

/// Between the moments at which the two servers see a command there is less than this, in milliseconds.
const APART_MS_MAX: i64 = 100_000;
/// Deadlines in milliseconds from here on were given as such, and not as a distance from a moment.
const ABSOLUTE_MS_MIN: i64 = 4_000_000_000_000;

/// Commands whose replies are of one kind and else each server's own.
const SAME_KIND: &[&str] = &["client|id", "client|info", "client|list", "command", "command|list", "info", "randomkey", "role", "time"];

/// The name of a command as COMMAND LIST has it, its subcommand included.
pub(super) fn full_name(args: &[Bytes]) -> String {
    let lower = |arg: &Bytes| String::from_utf8_lossy(arg).to_ascii_lowercase();
    let name = lower(&args[0]);
    match args.get(1) {
        Some(word) if matches!(name.as_str(), "client" | "command" | "config") => format!("{name}|{}", lower(word)),
        Some(_) | None => name,
    }
}

/// Whether the replies to a command agree.
pub(super) fn agree(name: &str, args: &[Bytes], redis: &[u8], redraft: &[u8]) -> bool {
    if redis == redraft {
        return true;
    }
    if redis.first() == Some(&b'-') || redraft.first() == Some(&b'-') {
        return false;
    }
    if SAME_KIND.contains(&name) {
        return redis[0] == redraft[0] && is_null(redis) == is_null(redraft);
    }
    let (Some(first), Some(second)) = (decoded(redis), decoded(redraft)) else { return false };
    match (name, first, second) {
        ("ttl", Value::Integer(first), Value::Integer(second)) => is_near(first, second, 1_000),
        ("pttl", Value::Integer(first), Value::Integer(second)) => is_near(first, second, 1),
        ("expiretime", Value::Integer(first), Value::Integer(second)) => first < ABSOLUTE_MS_MIN / 1_000 && is_near(first, second, 1_000),
        ("pexpiretime", Value::Integer(first), Value::Integer(second)) => first < ABSOLUTE_MS_MIN && is_near(first, second, 1),
        ("keys", Value::Array(first), Value::Array(second)) => sorted(first) == sorted(second),
        ("scan", Value::Array(first), Value::Array(second)) => same_page(args, &first, &second),
        ("hello", first, second) => without_identity(first) == without_identity(second),
        _ => false,
    }
}

fn is_null(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

/// Whether two times, in units of so many milliseconds, mean the same. Negative ones are no times.
fn is_near(first: i64, second: i64, unit_ms: i64) -> bool {
    first >= 0 && second >= 0 && first.abs_diff(second) <= (APART_MS_MAX / unit_ms).unsigned_abs()
}

/// The elements in an order that does not depend on the server.
pub(super) fn sorted(mut elements: Vec<Value>) -> Vec<Value> {
    elements.sort_by_key(|element| format!("{element:?}"));
    elements
}

/// Two pages are the same if both are the whole; of others only the shape is.
fn same_page(args: &[Bytes], first: &[Value], second: &[Value]) -> bool {
    match (first, second) {
        ([Value::Bulk(first_cursor), Value::Array(first)], [Value::Bulk(second_cursor), Value::Array(second)]) => {
            let both_whole =
                args.get(1).is_some_and(|cursor| cursor.iter().all(|digit| *digit == b'0')) && first_cursor == "0" && second_cursor == "0";
            !both_whole || sorted(first.clone()) == sorted(second.clone())
        }
        _ => false,
    }
}

/// HELLO's reply without the server's version and the client's id.
fn without_identity(reply: Value) -> Value {
    let is_identity = |name: &Value| matches!(name, Value::Bulk(name) if name == "version" || name == "id");
    match reply {
        Value::Map(mut fields) => {
            fields.retain(|(name, _)| !is_identity(name));
            Value::Map(fields)
        }
        Value::Array(mut elements) => {
            while let Some(at) = elements.iter().position(is_identity) {
                elements.drain(at..(at + 2).min(elements.len()));
            }
            Value::Array(elements)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, redis: &str, redraft: &str, expected: bool) {
        let args: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        assert_eq!(agree(&full_name(&args), &args, redis.as_bytes(), redraft.as_bytes()), expected, "{line}: {redis:?} {redraft:?}");
    }

    #[test]
    fn replies_agree_byte_for_byte() {
        check("get a", "$1\r\nx\r\n", "$1\r\nx\r\n", true);
        check("get a", "$1\r\nx\r\n", "+x\r\n", false);
        check("get a", "$-1\r\n", "*-1\r\n", false);
        check("get a", "$-1\r\n", "_\r\n", false);
        check("keys *", "-ERR one\r\n", "-ERR other\r\n", false);
        check("randomkey", "$1\r\nx\r\n", "-ERR other\r\n", false);
    }

    #[test]
    fn what_depends_on_moment_or_order_agrees_in_substance() {
        check("PTTL a", ":12000000\r\n", ":12000900\r\n", true);
        check("pttl a", ":12000000\r\n", ":-1\r\n", false);
        check("pttl a", ":-2\r\n", ":-1\r\n", false);
        check("ttl a", ":12000\r\n", ":12001\r\n", true);
        check("ttl a", ":12000\r\n", ":13000\r\n", false);
        check("pexpiretime a", ":4102444800000\r\n", ":4102444800001\r\n", false);
        check("keys *", "*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$1\r\nb\r\n$1\r\na\r\n", true);
        check("keys *", "*1\r\n$1\r\na\r\n", "*1\r\n$1\r\nb\r\n", false);
        check("scan 0", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n", "*2\r\n$1\r\n0\r\n*0\r\n", false);
        check("scan 0", "*2\r\n$1\r\n5\r\n*1\r\n$1\r\na\r\n", "*2\r\n$1\r\n0\r\n*0\r\n", true);
        check("randomkey", "$1\r\nx\r\n", "$1\r\ny\r\n", true);
        check("randomkey", "$1\r\nx\r\n", "$-1\r\n", false);
        check("client id", ":1\r\n", ":2\r\n", true);
        check(
            "hello",
            "*4\r\n$7\r\nversion\r\n$1\r\n7\r\n$5\r\nproto\r\n:2\r\n",
            "*4\r\n$7\r\nversion\r\n$1\r\n8\r\n$5\r\nproto\r\n:2\r\n",
            true,
        );
    }
}
