//! Walks over keys: replies, cursors, and what a walk promises while keys come and go.

use std::collections::BTreeSet;

use resp::Reply;

use super::{parse_range_cursor, range_cursor};
use crate::command::harness::{Session, arguments, text};

/// The cursor and the items of a page.
fn page(reply: Reply) -> (String, Vec<String>) {
    let Reply::Array(parts) = reply else { panic!("no page: {reply:?}") };
    let [Reply::Bulk(cursor), Reply::Array(items)] = &parts[..] else { panic!("no page: {parts:?}") };
    (String::from_utf8(cursor.to_vec()).expect("a cursor is text"), items.iter().map(text).collect())
}

/// All items of a walk, and the number of its pages.
fn walk(session: &mut Session, start: &str, next: impl Fn(&str) -> String) -> (Vec<String>, usize) {
    let (mut cursor, mut items) = page(session.run(&arguments(start)));
    let mut pages = 1;
    while cursor != "0" {
        let (following, more) = page(session.run(&arguments(&next(&cursor))));
        cursor = following;
        items.extend(more);
        pages += 1;
        assert!(pages < 10_000, "the walk ends");
    }
    (items, pages)
}

fn filled(count: usize) -> Session {
    let mut session = Session::new();
    for number in 0..count {
        assert_eq!(session.line(&format!("set key:{number:04} value:{number}")), "OK");
    }
    session
}

#[test]
fn keys_fit_their_pattern() {
    Session::new().check_lines(
        "
        mset one 1 two 2 three 3 four 4 '' empty -> OK
        keys * -> ['' 'four' 'one' 'three' 'two']
        keys t* -> ['three' 'two']
        keys t?? -> ['two']
        keys [ot]*e -> ['one' 'three']
        keys one -> ['one']
        keys x -> []
        keys -> ERR wrong number of arguments for 'keys' command
        pexpire one 5 -> 1
        sleep 5
        set two 2 -> OK
        keys *o* -> ['four' 'two']
        ",
    );
}

#[test]
fn scan_arguments_are_checked_as_in_redis() {
    Session::new().check_lines(
        "
        scan 0 -> ['0' []]
        scan '' -> ['0' []]
        scan +0 -> ['0' []]
        scan -1 -> ['0' []]
        scan '0\x00x' -> ['0' []]
        scan - -> ERR invalid cursor
        scan ' 0' -> ERR invalid cursor
        scan x -> ERR invalid cursor
        scan -x -> ERR invalid cursor
        scan 99999999999999999999 -> ERR invalid cursor
        scan 18446744073709551615 -> ['0' []]
        scan 0 count 0 -> ERR syntax error
        scan 0 count -1 -> ERR syntax error
        scan 0 count x -> ERR value is not an integer or out of range
        scan 0 count -> ERR syntax error
        scan 0 match -> ERR syntax error
        scan 0 foo bar -> ERR syntax error
        scan x foo bar -> ERR invalid cursor
        set a 1 -> OK
        scan 0 type string -> ['0' ['a']]
        scan 0 TYPE STRING COUNT 5 MATCH * -> ['0' ['a']]
        scan 0 type list -> ['0' []]
        scan 0 type nonsense -> ['0' []]
        scan 0 match b* -> ['0' []]
        ",
    );
}

#[test]
fn scan_returns_every_key_once() {
    let mut session = filled(500);
    for count in [1, 7, 10, 499, 500, 1_000_000_000] {
        let (items, pages) = walk(&mut session, &format!("scan 0 count {count}"), |cursor| format!("scan {cursor} count {count}"));
        assert_eq!(items.len(), 500);
        assert_eq!(items.iter().collect::<BTreeSet<_>>().len(), 500);
        assert_eq!(pages, 500_usize.div_ceil(count), "count {count}");
    }
    let (items, pages) = walk(&mut session, "scan 0 match key:01*", |cursor| format!("scan {cursor} match key:01*"));
    assert_eq!((items.len(), pages), (100, 50), "COUNT bounds the keys examined, not those returned");
}

#[test]
fn scan_keeps_its_promise_while_keys_come_and_go() {
    let mut session = filled(200);
    let (mut cursor, mut seen) = page(session.run(&arguments("scan 0 count 5")));
    let mut round = 0;
    while cursor != "0" {
        // Every fourth key stays; the others go, and new ones come.
        for number in (0..200).filter(|number| number % 4 != 0 && number % 7 == round % 7) {
            session.line(&format!("del key:{number:04}"));
            session.line(&format!("set new:{round}:{number} x"));
        }
        let (next, items) = page(session.run(&arguments(&format!("scan {cursor} count 5"))));
        assert!(next == "0" || next.parse::<u64>().expect("a number") > cursor.parse().expect("a number"), "cursors ascend");
        assert!(next.parse::<u64>().expect("a number") < 1 << 52);
        cursor = next;
        seen.extend(items);
        round += 1;
    }
    for number in (0..200).step_by(4) {
        assert_eq!(seen.iter().filter(|key| **key == format!("'key:{number:04}'")).count(), 1, "{number}");
    }
}

#[test]
fn range_pages_in_both_directions() {
    let mut session = filled(25);
    let expected: Vec<String> = (0..25).map(|number| format!("'key:{number:04}'")).collect();
    for count in [1, 10, 24, 25, 26] {
        let (items, pages) =
            walk(&mut session, &format!("range - + count {count}"), |cursor| format!("range - + cursor {cursor} count {count}"));
        assert_eq!(items, expected, "count {count}");
        assert_eq!(pages, 25_usize.div_ceil(count), "count {count}");
        let (mut items, _) =
            walk(&mut session, &format!("range + - rev count {count}"), |cursor| format!("range + - rev count {count} cursor {cursor}"));
        items.reverse();
        assert_eq!(items, expected, "count {count}");
    }
}

#[test]
fn range_bounds_are_lexicographic() {
    Session::new().check_lines(
        "
        mset a 1 ab 2 b 3 c 4 -> OK
        range - + -> ['0' ['a' 'ab' 'b' 'c']]
        range [a [b -> ['0' ['a' 'ab' 'b']]
        range (a (b -> ['0' ['ab']]
        range (a + -> ['0' ['ab' 'b' 'c']]
        range [b [a -> ['0' []]
        range (a (a -> ['0' []]
        range [a [a -> ['0' ['a']]
        range + - -> ['0' []]
        range [b [a rev -> ['0' ['b' 'ab' 'a']]
        range + [b REV -> ['0' ['c' 'b']]
        range - + rev -> ['0' []]
        range - + withvalues count 2 -> ['k6162' ['a' '1' 'ab' '2']]
        range - + withvalues count 2 cursor k6162 -> ['0' ['b' '3' 'c' '4']]
        range - + match a* -> ['0' ['a' 'ab']]
        range - + count 0 -> ERR syntax error
        range - + count x -> ERR value is not an integer or out of range
        range - + cursor k6 -> ERR invalid cursor
        range - + cursor kxx -> ERR invalid cursor
        range - + cursor 7 -> ERR invalid cursor
        range - + cursor -> ERR syntax error
        range - + foo -> ERR syntax error
        range - + foo bar -> ERR syntax error
        range a + -> ERR min or max not valid string range item
        range - b -> ERR min or max not valid string range item
        range '' + -> ERR min or max not valid string range item
        range - -> ERR wrong number of arguments for 'range' command
        range [b + cursor k61 -> ['0' ['b' 'c']]
        range [b - rev cursor k63 -> ['0' ['b' 'ab' 'a']]
        range [ [ -> ['0' []]
        set '' empty -> OK
        range - + count 1 -> ['k' ['']]
        range - + count 1 cursor k -> ['k61' ['a']]
        select 1
        range - + -> ['0' []]
        ",
    );
}

#[test]
fn range_leaves_due_keys_out() {
    Session::new().check_lines(
        "
        mset a 1 c 3 -> OK
        set b 2 px 10 -> OK
        sleep 10
        set d 4 -> OK
        range - + count 2 -> ['k63' ['a' 'c']]
        range - + rev -> ['0' []]
        range + - rev count 2 withvalues -> ['k63' ['d' '4' 'c' '3']]
        range + - rev count 2 withvalues cursor k63 -> ['0' ['a' '1']]
        ",
    );
}

#[test]
fn a_page_ends_after_many_bytes() {
    let mut session = Session::new();
    for key in ["a", "b", "c"] {
        assert_eq!(session.line(&format!("setrange {key} {} x", 12 << 20)), ((12 << 20) + 1).to_string());
    }
    let (cursor, items) = page(session.run(&arguments("range - + withvalues")));
    assert_eq!((cursor.as_str(), items.len()), ("k62", 4));
    assert_eq!(session.line("range - +"), "['0' ['a' 'b' 'c']]", "without values the page is small");
}

#[test]
fn range_cursors_name_any_key() {
    for key in [&b""[..], b"abc", b"\0\xff", &[7; 300]] {
        assert_eq!(parse_range_cursor(range_cursor(key).as_bytes()), Ok(Some(key.to_vec())));
    }
    assert_eq!(parse_range_cursor(b"0"), Ok(None));
}
