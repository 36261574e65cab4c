"""Strings through redis-py."""

import time

import pytest

from servers import client, wait_until

BINARY = bytes(range(256))


def test_values_and_keys_are_binary_safe(db):
    assert db.set(BINARY, BINARY[::-1]) is True
    assert db.get(BINARY) == BINARY[::-1]
    assert db.set("", "") is True
    assert db.get("") == b""
    assert db.get("absent") is None


def test_large_values_come_back_whole(db):
    value = BINARY * 8192
    db.set("large", value)
    assert db.get("large") == value
    assert db.strlen("large") == len(value)


def test_set_obeys_its_conditions(db):
    assert db.set("k", "1", xx=True) is None
    assert db.set("k", "1", nx=True) is True
    assert db.set("k", "2", nx=True) is None
    assert db.set("k", "3", xx=True, get=True) == b"1"
    assert db.set("k", "4", nx=True, get=True) == b"3"
    assert db.get("k") == b"3"
    assert db.setnx("k", "5") is False
    assert db.getset("k", "6") == b"3"


def test_set_takes_deadlines(db):
    db.set("k", "v", ex=100)
    assert 99 <= db.ttl("k") <= 100
    db.set("k", "w", keepttl=True)
    assert 99 <= db.ttl("k") <= 100
    db.set("k", "v", px=50_000)
    assert 49_000 < db.pttl("k") <= 50_000
    db.set("k", "v", exat=int(time.time()) + 1000)
    assert 990 <= db.ttl("k") <= 1000
    db.set("k", "v", pxat=(int(time.time()) + 1000) * 1000)
    assert 990 <= db.ttl("k") <= 1000
    db.set("k", "v")
    assert db.ttl("k") == -1
    db.execute_command("SETEX", "k", 10, "v")
    assert 9 <= db.ttl("k") <= 10
    db.execute_command("PSETEX", "k", 10_000, "v")
    assert 9_000 < db.pttl("k") <= 10_000


def test_a_key_is_gone_after_its_deadline(db):
    db.set("k", "v", px=60)
    wait_until(lambda: db.get("k") is None, "the key expires", deadline_s=5)
    assert db.exists("k") == 0
    assert db.ttl("k") == -2
    assert db.dbsize() == 0


def test_getex_and_getdel(db):
    db.set("k", "v")
    assert db.getex("k", ex=100) == b"v"
    assert 99 <= db.ttl("k") <= 100
    assert db.getex("k", persist=True) == b"v"
    assert db.ttl("k") == -1
    assert db.getdel("k") == b"v"
    assert db.getdel("k") is None


def test_counters(db):
    assert db.incr("n") == 1
    assert db.incrby("n", 41) == 42
    assert db.decr("n") == 41
    assert db.decrby("n", 43) == -2
    assert db.incrbyfloat("f", "10.5") == 10.5
    assert db.incrbyfloat("f", "-5e-1") == 10.0
    assert db.get("f") == b"10"


def test_parts_of_strings(db):
    assert db.append("k", "Hello") == 5
    assert db.append("k", " World") == 11
    assert db.getrange("k", 0, 4) == b"Hello"
    assert db.getrange("k", -5, -1) == b"World"
    assert db.substr("k", 0, 0) == b"H"
    assert db.setrange("k", 6, "Redis") == 11
    assert db.get("k") == b"Hello Redis"
    assert db.setrange("gap", 3, "x") == 4
    assert db.get("gap") == b"\0\0\0x"


def test_many_keys_at_once(db):
    assert db.mset({"a": "1", "b": "2"}) is True
    assert db.mget("a", "missing", "b") == [b"1", None, b"2"]
    assert db.msetnx({"b": "3", "c": "3"}) is False
    assert db.exists("c") == 0
    assert db.msetnx({"c": "3", "d": "4"}) is True


def test_mset_is_seen_whole_or_not_at_all(server, protocol):
    """While one client writes all keys with one value, another never reads two values."""
    keys = [f"part:{number}" for number in range(20)]
    with client(server.ports[0], protocol=protocol) as writer, client(server.ports[-1], protocol=protocol) as reader:
        writer.mset(dict.fromkeys(keys, "0"))
        pipeline = writer.pipeline(transaction=False)
        for turn in range(1, 200):
            pipeline.mset(dict.fromkeys(keys, str(turn)))
        connection = pipeline.connection_pool.get_connection()
        connection.send_packed_command(connection.pack_commands([args for args, _ in pipeline.command_stack]))
        seen = set()
        while b"199" not in seen:
            values = set(reader.mget(keys))
            assert len(values) == 1
            seen |= values
        assert {connection.read_response() for _ in pipeline.command_stack} == {b"OK"}
        pipeline.connection_pool.release(connection)


def test_a_write_is_read_on_every_node(server, protocol):
    clients = [client(port, protocol=protocol) for port in server.ports]
    for turn in range(100):
        writer = clients[turn % len(clients)]
        writer.set("k", turn)
        assert [reader.get("k") for reader in clients] == [str(turn).encode()] * len(clients)
    for connection in clients:
        connection.close()


@pytest.mark.parametrize("transport", ["pipeline", "one by one"])
def test_pipelines_answer_in_order(db, transport):
    if transport == "pipeline":
        pipeline = db.pipeline(transaction=False)
        for number in range(1000):
            pipeline.set(f"k{number}", number)
            pipeline.get(f"k{number}")
            pipeline.incr("n")
        replies = pipeline.execute()
    else:
        replies = []
        for number in range(50):
            replies += [db.set(f"k{number}", number), db.get(f"k{number}"), db.incr("n")]
    assert replies == [reply for number in range(len(replies) // 3) for reply in (True, str(number).encode(), number + 1)]


def test_an_error_in_a_pipeline_stops_nothing(db):
    pipeline = db.pipeline(transaction=False)
    pipeline.set("text", "x").incr("text").incr("number").execute_command("NOSUCH").get("number")
    replies = pipeline.execute(raise_on_error=False)
    assert [replies[0], replies[2], replies[4]] == [True, 1, b"1"]
    assert "not an integer" in str(replies[1])
    assert "unknown command" in str(replies[3])


def test_a_lock_has_one_holder(server, protocol):
    """SET NX PX as a lock: taken once, by whoever asks first on any node; free again after its time."""
    clients = [client(port, protocol=protocol) for port in (server.ports * 3)[:3]]
    taken = [connection.set("lock", f"holder {position}", nx=True, px=300) for position, connection in enumerate(clients)]
    assert taken == [True, None, None]
    wait_until(lambda: clients[2].set("lock", "holder 2", nx=True, px=60_000), "the lock is free again", deadline_s=5)
    assert [connection.get("lock") for connection in clients] == [b"holder 2"] * 3
    assert clients[0].delete("lock") == 1
    assert clients[1].set("lock", "holder 1", nx=True, px=60_000) is True
    for connection in clients:
        connection.close()
