"""Keys, deadlines and iteration through redis-py."""

import time

import pytest

from servers import client


def test_delete_exists_touch_type(db):
    db.mset({"a": "1", "b": "2", "c": "3"})
    assert db.exists("a", "b", "missing", "a") == 3
    assert db.touch("a", "missing") == 1
    assert db.type("a") == b"string"
    assert db.type("missing") == b"none"
    assert db.delete("a", "missing") == 1
    assert db.unlink("b", "c") == 2
    assert db.dbsize() == 0


def test_deadlines_can_be_changed(db):
    db.set("k", "v")
    assert db.expire("k", 100, xx=True) is False
    assert db.expire("k", 100, nx=True) is True
    assert db.expire("k", 50, gt=True) is False
    assert db.expire("k", 50, lt=True) is True
    assert db.pexpire("k", 60_000) is True
    assert 59_000 < db.pttl("k") <= 60_000
    at = int(time.time()) + 500
    assert db.expireat("k", at) is True
    assert db.expiretime("k") == at
    assert db.pexpireat("k", at * 1000 + 5) is True
    assert db.pexpiretime("k") == at * 1000 + 5
    assert db.persist("k") is True
    assert db.persist("k") is False
    assert [db.ttl("k"), db.expiretime("k"), db.ttl("missing"), db.expiretime("missing")] == [-1, -1, -2, -2]
    assert db.expire("k", -1) is True
    assert db.exists("k") == 0


def test_rename_and_copy_take_value_and_deadline(db):
    db.set("a", "1", ex=100)
    assert db.rename("a", "b") is True
    assert db.exists("a") == 0
    assert db.ttl("b") > 90
    assert db.copy("b", "c") is True
    assert db.ttl("c") > 90
    assert db.copy("b", "c") is False
    assert db.copy("b", "c", replace=True) is True
    assert db.renamenx("b", "c") is False
    assert db.renamenx("b", "d") is True


def test_databases_are_apart(server, protocol):
    with client(server.port, db=1, protocol=protocol) as one, client(server.ports[-1], db=15, protocol=protocol) as fifteen:
        one.set("k", "one")
        fifteen.set("k", "fifteen")
        assert (one.get("k"), fifteen.get("k")) == (b"one", b"fifteen")
        one.set("moving", "x")
        assert one.move("moving", 15) is True
        assert (one.exists("moving"), fifteen.get("moving")) == (0, b"x")
        assert one.copy("k", "copied", destination_db=15) is True
        assert fifteen.get("copied") == b"one"
        one.flushdb()
        assert (one.dbsize(), fifteen.dbsize()) == (0, 3)
        one.flushall()
        assert fifteen.dbsize() == 0


def fill(db, count: int) -> set[bytes]:
    pipeline = db.pipeline(transaction=False)
    for number in range(count):
        pipeline.set(f"key:{number:05}", number)
    pipeline.execute()
    return {f"key:{number:05}".encode() for number in range(count)}


def test_scan_iter_finds_every_key_once(db):
    expected = fill(db, 1234)
    found = list(db.scan_iter(count=50))
    assert sorted(found) == sorted(expected)


def test_scan_filters(db):
    fill(db, 300)
    db.set("other", "x")
    assert sorted(db.scan_iter(match="key:0000[1-3]")) == [b"key:00001", b"key:00002", b"key:00003"]
    assert sorted(db.scan_iter(match="o*", _type="string")) == [b"other"]
    assert list(db.scan_iter(_type="list")) == []


def test_a_scan_keeps_what_stays_while_others_come_and_go(db):
    staying = fill(db, 500)
    cursor, found, turn = 0, set(), 0
    while True:
        cursor, keys = db.scan(cursor, count=20)
        found |= set(keys)
        db.set(f"coming:{turn}", "x")
        db.delete(f"coming:{turn - 1}")
        turn += 1
        if cursor == 0:
            break
    assert staying <= found


def test_keys_and_randomkey(db):
    assert db.randomkey() is None
    db.mset({"one": 1, "two": 2, "three": 3, "a\\*b": 4})
    assert sorted(db.keys("t*")) == [b"three", b"two"]
    assert db.keys("[^o]??") == [b"two"]
    assert db.keys(r"a\\\*b") == [b"a\\*b"]
    assert db.randomkey() in {b"one", b"two", b"three", b"a\\*b"}


@pytest.mark.redraft_only
def test_range_reads_keys_in_order(db):
    expected = sorted(fill(db, 250))
    cursor, keys = db.execute_command("RANGE", "-", "+")
    assert (keys, cursor) == (expected[:100], cursor)
    assert cursor != b"0"
    pages = list(keys)
    while cursor != b"0":
        cursor, keys = db.execute_command("RANGE", "-", "+", "CURSOR", cursor)
        pages += keys
    assert pages == expected
    assert db.execute_command("RANGE", "[key:00010", "(key:00013") == [b"0", expected[10:13]]
    assert db.execute_command("RANGE", "[key:00012", "[key:00010", "REV") == [b"0", expected[10:13][::-1]]
    assert db.execute_command("RANGE", "-", "+", "MATCH", "key:0000[13]") == [b"0", [b"key:00001", b"key:00003"]]


@pytest.mark.redraft_only
def test_range_with_values_is_flat_in_both_protocols(db):
    db.mset({"a": "1", "b": "2", "c": "3"})
    assert db.execute_command("RANGE", "-", "(c", "WITHVALUES") == [b"0", [b"a", b"1", b"b", b"2"]]
    cursor, page = db.execute_command("RANGE", "-", "+", "COUNT", 2, "WITHVALUES")
    assert page == [b"a", b"1", b"b", b"2"]
    assert db.execute_command("RANGE", "-", "+", "COUNT", 2, "WITHVALUES", "CURSOR", cursor) == [b"0", [b"c", b"3"]]


@pytest.mark.redraft_only
def test_range_decodes_for_clients_that_want_text(server, protocol):
    with client(server.port, protocol=protocol, decode_responses=True) as text:
        text.set("grüße", "wörter")
        assert text.execute_command("RANGE", "-", "+", "WITHVALUES") == ["0", ["grüße", "wörter"]]
