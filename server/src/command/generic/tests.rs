//! Replies of the generic commands, as redis-server 7.0 gives them.

use crate::command::harness::Session;
use crate::keyspace::UnixMillis;

#[test]
fn keys_come_and_go() {
    Session::new().check_lines(
        "
        mset a 1 b 2 c 3 -> OK
        dbsize -> 3
        exists a b x a -> 3
        touch a x -> 1
        type a -> string
        type x -> none
        del a x a -> 1
        unlink b c -> 2
        dbsize -> 0
        randomkey -> nil
        set only 1 -> OK
        randomkey -> 'only'
        del -> ERR wrong number of arguments for 'del' command
        dbsize x -> ERR wrong number of arguments for 'dbsize' command
        ",
    );
}

#[test]
fn rename_takes_value_and_deadline_along() {
    Session::new().check_lines(
        "
        rename a b -> ERR no such key
        rename a a -> ERR no such key
        renamenx a b -> ERR no such key
        set a 1 px 500 -> OK
        set b 2 px 900 -> OK
        rename a a -> OK
        renamenx a a -> 0
        renamenx a b -> 0
        rename a b -> OK
        get a -> nil
        get b -> '1'
        pttl b -> 500
        renamenx b c -> 1
        get c -> '1'
        set d 4 -> OK
        rename d c -> OK
        pttl c -> -1
        dbsize -> 1
        ",
    );
}

#[test]
fn copy_and_move_across_databases() {
    Session::new().check_lines(
        "
        copy a b -> 0
        set a 1 px 500 -> OK
        copy a b -> 1
        pttl b -> 500
        set a 2 -> OK
        copy a b -> 0
        copy a b replace -> 1
        get b -> '2'
        pttl b -> -1
        copy a a -> ERR source and destination objects are the same
        copy a a db 0 -> ERR source and destination objects are the same
        copy a a db 1 -> 1
        copy a a db 1 REPLACE -> 1
        copy a b db -> ERR syntax error
        copy a b db x -> ERR value is not an integer or out of range
        copy a b db 16 -> ERR DB index is out of range
        copy a b db -1 -> ERR DB index is out of range
        copy a b db 99999999999 -> ERR value is out of range, value must between -2147483648 and 2147483647
        copy a b foo -> ERR syntax error
        copy missing missing -> ERR source and destination objects are the same
        select 1
        get a -> '2'
        dbsize -> 1
        set m 5 px 700 -> OK
        move m 0 -> 1
        move m 0 -> 0
        move a 0 -> 0
        move a 1 -> ERR source and destination objects are the same
        move missing 1 -> ERR source and destination objects are the same
        move a 16 -> ERR DB index is out of range
        move a x -> ERR value is not an integer or out of range
        select 0
        get m -> '5'
        pttl m -> 700
        ",
    );
}

#[test]
fn deadlines_are_set_and_shown() {
    Session::new().check_lines(
        "
        expire k 10 -> 0
        ttl k -> -2
        pttl k -> -2
        expiretime k -> -2
        set k v -> OK
        ttl k -> -1
        expiretime k -> -1
        persist k -> 0
        expire k 10 -> 1
        ttl k -> 10
        pttl k -> 10000
        expire k 10 nx -> 0
        persist k -> 1
        expire k 10 xx -> 0
        expire k 10 gt -> 0
        expire k 10 lt -> 1
        expire k 20 gt -> 1
        expire k 20 gt -> 0
        expire k 20 lt -> 0
        expire k 5 XX LT -> 1
        expire k 6 xx -> 1
        pttl k -> 6000
        expireat k 4000000000 -> 1
        expiretime k -> 4000000000
        pexpireat k 4000000000499 -> 1
        expiretime k -> 4000000000
        pexpireat k 4000000000500 -> 1
        expiretime k -> 4000000001
        pexpiretime k -> 4000000000500
        pexpire k 1499 -> 1
        ttl k -> 1
        pexpire k 1500 -> 1
        ttl k -> 2
        persist missing -> 0
        ",
    );
}

#[test]
fn deadlines_in_the_past_remove_the_key() {
    Session::new().check_lines(
        "
        set k v -> OK
        expire k 0 -> 1
        exists k -> 0
        set k v -> OK
        expire k -10 -> 1
        exists k -> 0
        set k v -> OK
        expireat k 1 -> 1
        exists k -> 0
        set k v -> OK
        pexpireat k -9223372036854775808 -> 1
        exists k -> 0
        set k v -> OK
        expire k -1 gt -> 0
        expire k -1 lt -> 1
        dbsize -> 0
        ",
    );
}

#[test]
fn deadlines_are_checked_as_in_redis() {
    Session::new().check_lines(
        "
        set k v -> OK
        expire k x -> ERR value is not an integer or out of range
        expire k 9223372036854775807 -> ERR invalid expire time in 'expire' command
        expire k -9223372036854775808 -> ERR invalid expire time in 'expire' command
        expire k 9223372036854775 -> ERR invalid expire time in 'expire' command
        pexpire k 9223372036854775807 -> ERR invalid expire time in 'pexpire' command
        expireat k 9223372036854775807 -> ERR invalid expire time in 'expireat' command
        expire missing 9223372036854775807 -> ERR invalid expire time in 'expire' command
        pexpire missing 9223372036854775807 -> ERR invalid expire time in 'pexpire' command
        expire k 10 foo -> ERR Unsupported option foo
        expire k x foo -> ERR Unsupported option foo
        expire k 10 'foo\x00bar' -> ERR Unsupported option foo
        expire k 10 nx xx -> ERR NX and XX, GT or LT options at the same time are not compatible
        expire k 10 nx gt -> ERR NX and XX, GT or LT options at the same time are not compatible
        expire k 10 lt nx -> ERR NX and XX, GT or LT options at the same time are not compatible
        expire k 10 gt lt -> ERR GT and LT options at the same time are not compatible
        ttl k -> -1
        pexpireat k 9223372036854775807 -> 1
        pexpiretime k -> 9223372036854775807
        expiretime k -> 9223372036854776
        expire k -> ERR wrong number of arguments for 'expire' command
        persist -> ERR wrong number of arguments for 'persist' command
        ",
    );
}

#[test]
fn due_keys_do_not_exist_for_writes() {
    Session::new().check_lines(
        "
        set k 5 px 10 -> OK
        set l 5 px 10 -> OK
        set m 5 px 10 -> OK
        set n 5 px 10 -> OK
        dbsize -> 4
        sleep 10
        incr k -> 1
        ttl k -> -1
        append l x -> 1
        del m -> 0
        setnx n new -> 1
        expire o 10 -> 0
        dbsize -> 3
        set p 1 px 10 -> OK
        sleep 10
        rename p q -> ERR no such key
        copy p q -> 0
        getdel p -> nil
        persist p -> 0
        ",
    );
}

#[test]
fn databases_are_flushed_and_swapped() {
    Session::new().check_lines(
        "
        mset a 1 b 2 -> OK
        select 3
        set c 3 -> OK
        swapdb 0 3 -> OK
        mget a b c -> ['1' '2' nil]
        dbsize -> 2
        swapdb 3 3 -> OK
        select 0
        get c -> '3'
        flushdb -> OK
        dbsize -> 0
        get c -> nil
        set c 4 -> OK
        get c -> '4'
        select 3
        dbsize -> 2
        flushall async -> OK
        dbsize -> 0
        flushdb SYNC -> OK
        flushdb foo -> ERR syntax error
        flushall sync sync -> ERR syntax error
        swapdb x 1 -> ERR invalid first DB index
        swapdb 1 x -> ERR invalid second DB index
        swapdb 0 16 -> ERR DB index is out of range
        swapdb -1 0 -> ERR DB index is out of range
        swapdb 99999999999 0 -> ERR invalid first DB index
        swapdb 16 x -> ERR invalid second DB index
        select 0
        dbsize -> 0
        ",
    );
}

#[test]
fn reads_wait_for_the_log_to_pass_a_deadline() {
    let mut session = Session::new();
    session.check_lines("set k v px 100 -> OK");
    let deadline = UnixMillis(session.now.0 + 100);
    session.leader_time = Some(UnixMillis(deadline.0 - 1));
    session.check_lines("get k -> 'v'\n pttl k -> 1\n exists k -> 1");
    session.leader_time = Some(deadline);
    for line in ["get k", "pttl k", "exists k", "type k", "strlen k", "mget k", "keys *", "scan 0", "range - +", "randomkey"] {
        assert_eq!(session.line(line), format!("TimeNeeded {}", deadline.0), "{line}");
    }
    session.check_lines("scan 0 match x* -> ['0' []]\n keys x* -> []");
    session.now = deadline;
    session.check_lines("set other 1 -> OK\n get k -> nil\n pttl k -> -2\n keys * -> ['other']\n dbsize -> 2");
    session.leader_time = None;
    session.check_lines("scan 0 -> ['0' ['other']]");
    assert!(session.write(|writer| writer.purge_expired(10)).is_ok_and(|purged| purged.keys == 1 && !purged.more));
    session.check_lines("dbsize -> 1");
}

#[test]
fn random_keys_come_from_the_whole_database() {
    let mut session = Session::new();
    session.check_lines("mset a 1 b 2 c 3 d 4 -> OK\n set e 5 px 10 -> OK\n sleep 10\n set a 1 -> OK");
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..200 {
        session.seed = step << 45 | step;
        seen.insert(session.line("randomkey"));
    }
    assert_eq!(seen.into_iter().collect::<String>(), "'a''b''c''d'");
}
