//! Replies of the string commands, as redis-server 7.0 gives them.

use bytes::Bytes;
use resp::Reply;

use super::part;
use crate::command::harness::{Session, arguments};
use crate::keyspace::{INLINE_BYTES_MAX, KEY_BYTES_MAX, STRING_BYTES_MAX};

const WORD: &str = "ERR value is not an integer or out of range";

fn args(words: &[&[u8]]) -> Vec<Bytes> {
    words.iter().map(|word| Bytes::copy_from_slice(word)).collect()
}

#[test]
fn set_and_get() {
    Session::new().check_lines(
        "
        get k -> nil
        set k v -> OK
        get k -> 'v'
        GET k -> 'v'
        set k '' -> OK
        get k -> ''
        set '' empty -> OK
        get '' -> 'empty'
        set bin 'a\\x00\\xffb' -> OK
        get bin -> 'a\\x00\\xffb'
        get -> ERR wrong number of arguments for 'get' command
        get a b -> ERR wrong number of arguments for 'get' command
        set k -> ERR wrong number of arguments for 'set' command
        ",
    );
}

#[test]
fn set_conditions_and_old_value() {
    Session::new().check_lines(
        "
        set k a xx -> nil
        get k -> nil
        set k a nx -> OK
        set k b nx -> nil
        set k b NX get -> 'a'
        get k -> 'a'
        set k b xx -> OK
        set k c get -> 'b'
        set k d xx get -> 'c'
        set new e nx get -> nil
        get new -> 'e'
        set other f xx get -> nil
        get other -> nil
        set k g nx xx -> ERR syntax error
        set k g xx nx -> ERR syntax error
        set k g nx nx -> nil
        set k g foo -> ERR syntax error
        get k -> 'd'
        ",
    );
}

#[test]
fn set_lifetimes() {
    Session::new().check_lines(
        "
        set k v ex 10 -> OK
        pttl k -> 10000
        set k v px 1500 -> OK
        pttl k -> 1500
        set k v keepttl -> OK
        pttl k -> 1500
        set k v xx keepttl get -> 'v'
        pttl k -> 1500
        set k v -> OK
        pttl k -> -1
        set k v keepttl -> OK
        pttl k -> -1
        set k v exat 4000000000 -> OK
        pexpiretime k -> 4000000000000
        set k v pxat 4000000000001 -> OK
        pexpiretime k -> 4000000000001
        set k v ex 5 ex 7 -> OK
        pttl k -> 7000
        set k gone exat 1 -> OK
        get k -> nil
        set k old -> OK
        set k gone pxat 1 get -> 'old'
        exists k -> 0
        set k v px 100 -> OK
        sleep 99
        get k -> 'v'
        sleep 1
        get k -> nil
        set k w keepttl -> OK
        ttl k -> -1
        ",
    );
}

#[test]
fn set_refuses_bad_lifetimes() {
    Session::new().check_lines(&format!(
        "
        set k v ex 0 -> ERR invalid expire time in 'set' command
        set k v ex -1 -> ERR invalid expire time in 'set' command
        set k v px -9223372036854775808 -> ERR invalid expire time in 'set' command
        set k v ex 9223372036854775807 -> ERR invalid expire time in 'set' command
        set k v ex 9223372036854775 -> ERR invalid expire time in 'set' command
        set k v px 9223372036854775807 -> ERR invalid expire time in 'set' command
        set k v exat 0 -> ERR invalid expire time in 'set' command
        set k v ex x -> {WORD}
        set k v ex 1.5 -> {WORD}
        set k v ex -> ERR syntax error
        set k v ex 1 px 1 -> ERR syntax error
        set k v ex 1 keepttl -> ERR syntax error
        set k v keepttl ex 1 -> ERR syntax error
        set k v exat 1 ex 1 -> ERR syntax error
        set k v ex x foo -> ERR syntax error
        set k v persist -> ERR syntax error
        get k -> nil
        setex k 0 v -> ERR invalid expire time in 'setex' command
        setex k x v -> {WORD}
        psetex k -5 v -> ERR invalid expire time in 'psetex' command
        setex k 9223372036854775807 v -> ERR invalid expire time in 'setex' command
        get k -> nil
        "
    ));
}

#[test]
fn variants_of_set() {
    Session::new().check_lines(
        "
        setnx k a -> 1
        setnx k b -> 0
        get k -> 'a'
        setex k 10 b -> OK
        pttl k -> 10000
        psetex k 10 c -> OK
        pttl k -> 10
        getset k d -> 'c'
        pttl k -> -1
        getset missing x -> nil
        get missing -> 'x'
        getdel k -> 'd'
        getdel k -> nil
        exists k -> 0
        setnx k -> ERR wrong number of arguments for 'setnx' command
        setex k 1 -> ERR wrong number of arguments for 'setex' command
        ",
    );
}

#[test]
fn getex_changes_the_deadline_only() {
    Session::new().check_lines(&format!(
        "
        set k v -> OK
        getex k -> 'v'
        pttl k -> -1
        getex k ex 10 -> 'v'
        pttl k -> 10000
        getex k -> 'v'
        pttl k -> 10000
        getex k persist -> 'v'
        pttl k -> -1
        getex k persist -> 'v'
        getex k px 50 -> 'v'
        getex k pxat 4000000000000 -> 'v'
        pexpiretime k -> 4000000000000
        getex k exat 4000000001 -> 'v'
        pexpiretime k -> 4000000001000
        getex k ex 0 -> ERR invalid expire time in 'getex' command
        getex k ex x -> {WORD}
        getex k ex -> ERR syntax error
        getex k ex 1 persist -> ERR syntax error
        getex k persist ex 1 -> ERR syntax error
        getex k ex 1 px 1 -> ERR syntax error
        getex k keepttl -> ERR syntax error
        getex k nx -> ERR syntax error
        getex missing ex 10 -> nil
        getex missing ex 0 -> nil
        getex missing ex x -> nil
        getex missing foo -> ERR syntax error
        getex k exat 1 -> 'v'
        exists k -> 0
        "
    ));
}

#[test]
fn several_keys_at_once() {
    Session::new().check_lines(
        "
        mset a 1 b 2 a 3 -> OK
        mget a b c a -> ['3' '2' nil '3']
        mset a -> ERR wrong number of arguments for 'mset' command
        mset a 1 b -> ERR wrong number of arguments for 'mset' command
        msetnx c 1 a 2 -> 0
        get c -> nil
        msetnx c 1 d 2 c 3 -> 1
        mget c d -> ['3' '2']
        msetnx x 1 y -> ERR wrong number of arguments for 'msetnx' command
        expire a 100 -> 1
        mset a 4 -> OK
        ttl a -> -1
        ",
    );
}

#[test]
fn parts_of_strings() {
    Session::new().check_lines(&format!(
        "
        append k Hello -> 5
        append k ' World' -> 11
        append k '' -> 11
        strlen k -> 11
        strlen missing -> 0
        append empty '' -> 0
        exists empty -> 1
        getrange k 0 4 -> 'Hello'
        getrange k -5 -1 -> 'World'
        getrange k 0 -1 -> 'Hello World'
        getrange k 6 1000 -> 'World'
        getrange k 5 3 -> ''
        getrange k -1 -5 -> ''
        getrange k -100 0 -> 'H'
        getrange k -100 -50 -> 'H'
        getrange k 11 12 -> ''
        getrange k 9223372036854775807 -9223372036854775808 -> ''
        getrange k -9223372036854775808 9223372036854775807 -> 'Hello World'
        getrange empty 0 -1 -> ''
        getrange missing 0 -1 -> ''
        getrange k a 1 -> {WORD}
        substr k 0 4 -> 'Hello'
        setrange k 6 Redis -> 11
        get k -> 'Hello Redis'
        setrange k 11 '!!' -> 13
        setrange pad 3 x -> 4
        get pad -> '\\x00\\x00\\x00x'
        setrange k 100 '' -> 13
        setrange none 5 '' -> 0
        exists none -> 0
        setrange k -1 x -> ERR offset is out of range
        setrange k x y -> {WORD}
        setrange k 9223372036854775807 x -> ERR string exceeds maximum allowed size (proto-max-bulk-len)
        setrange none 9223372036854775807 '' -> 0
        pexpire k 100 -> 1
        append k x -> 14
        setrange k 0 J -> 14
        pttl k -> 100
        "
    ));
}

#[test]
fn part_is_clamped_to_the_string() {
    for (start, end, length, expected) in [
        (0, 0, 0, None),
        (0, -1, 0, None),
        (-1, -1, 0, None),
        (0, 0, 3, Some(0..1)),
        (1, 5, 3, Some(1..3)),
        (-2, -1, 3, Some(1..3)),
        (-5, -4, 3, Some(0..1)),
        (-4, -5, 3, None),
        (3, 3, 3, None),
        (2, 1, 3, None),
        (i64::MIN, i64::MAX, 3, Some(0..3)),
    ] {
        assert_eq!(part(start, end, length), expected, "{start} {end} of {length}");
    }
}

#[test]
fn long_values_are_stored_apart_and_read_back() {
    let mut session = Session::new();
    for length in [INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 3 * INLINE_BYTES_MAX, 0, INLINE_BYTES_MAX + 1] {
        let value = vec![b'v'; length];
        assert_eq!(session.run(&args(&[b"set", b"k", &value])), Reply::OK);
        assert_eq!(session.run(&args(&[b"get", b"k"])), Reply::Bulk(value.into()));
        assert_eq!(session.run(&args(&[b"strlen", b"k"])), Reply::Integer(length as i64));
    }
    assert_eq!(session.line("append k x"), (INLINE_BYTES_MAX + 2).to_string());
    assert_eq!(session.line("getrange k -2 -1"), "'vx'");
    assert_eq!(session.line("expire k 10"), "1");
    assert_eq!(session.line("rename k l"), "OK");
    assert_eq!(session.line("getrange l -2 -1"), "'vx'");
    assert_eq!(session.line("ttl l"), "10");
    assert_eq!(session.line("del l"), "1");
}

#[test]
fn strings_and_keys_have_a_greatest_length() {
    let mut session = Session::new();
    let too_long = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(session.line(&format!("setrange k {} x", STRING_BYTES_MAX - 1)), STRING_BYTES_MAX.to_string());
    assert_eq!(session.line("append k x"), too_long);
    assert_eq!(session.line(&format!("setrange k {STRING_BYTES_MAX} x")), too_long);
    assert_eq!(session.line("strlen k"), STRING_BYTES_MAX.to_string());
    let value = vec![0; STRING_BYTES_MAX + 1];
    assert_eq!(session.run(&args(&[b"set", b"l", &value])), Reply::Error(too_long.into()));
    assert!(matches!(session.run(&arguments("mget k k k k")), Reply::Array(values) if values.len() == 4), "256 MiB are allowed");
    assert_eq!(session.line("mget k k k k k"), "ERR reply is too large");
    session.line("del k");

    let longest = vec![b'k'; KEY_BYTES_MAX];
    let beyond = vec![b'k'; KEY_BYTES_MAX + 1];
    assert_eq!(session.run(&args(&[b"set", &longest, b"v"])), Reply::OK);
    assert_eq!(session.run(&args(&[b"get", &longest])), Reply::Bulk("v".into()));
    for (line, expected) in [
        (&[&b"set"[..], &beyond, b"v"][..], Reply::Error("ERR key is too long".into())),
        (&[b"mset", b"a", b"1", &beyond, b"v"], Reply::Error("ERR key is too long".into())),
        (&[b"append", &beyond, b"v"], Reply::Error("ERR key is too long".into())),
        (&[b"rename", &longest, &beyond], Reply::Error("ERR key is too long".into())),
        (&[b"get", &beyond], Reply::Null),
        (&[b"del", &beyond], Reply::Integer(0)),
        (&[b"expire", &beyond, b"1"], Reply::Integer(0)),
    ] {
        assert_eq!(session.run(&args(line)), expected);
    }
    assert_eq!(session.line("dbsize"), "1", "a command that fails half-way leaves nothing");
}
