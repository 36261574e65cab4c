"""What clients ask of a connection and of the server: handshakes, INFO, CONFIG, errors."""

import socket

import pytest
import redis

from servers import Node, client, raw


def text(value: bytes | str) -> str:
    """redis-py decodes some replies in one protocol and not in the other."""
    return value.decode() if isinstance(value, bytes) else value


def test_hello_names_the_server(server):
    with client(server.port, protocol=3) as db:
        hello = db.execute_command("HELLO", 3)
    assert set(hello) == {b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"}
    assert (hello[b"server"], hello[b"proto"], hello[b"mode"], hello[b"role"]) == (b"redis", 3, b"standalone", b"master")
    assert hello[b"version"].startswith(b"7.")
    with client(server.port, protocol=2) as db:
        hello = db.execute_command("HELLO", 2)
    assert dict(zip(hello[::2], hello[1::2]))[b"proto"] == 2
    assert raw(server.port, "HELLO", "4") == ["-NOPROTO unsupported protocol version"]


def test_clients_tell_who_they_are(server, protocol):
    with client(server.port, protocol=protocol, client_name="tester", single_connection_client=True) as db:
        assert text(db.client_getname()) == "tester"
        assert db.client_setname("renamed") is True
        mine = db.client_info()
        assert (mine["name"], mine["resp"], mine["id"]) == ("renamed", str(protocol), db.client_id())
        assert any(other["name"] == "renamed" for other in db.client_list())


@pytest.mark.redraft_only  # new in Redis 7.2; Debian's is 7.0
def test_clients_tell_their_library(server, protocol):
    with client(server.port, protocol=protocol, single_connection_client=True) as db:
        assert db.client_setinfo("LIB-NAME", "tester") is True
        assert db.client_setinfo("LIB-VER", "1.2") is True
        mine = db.client_info()
        assert (mine["lib-name"], mine["lib-ver"]) == ("tester", "1.2")
        with pytest.raises(redis.ResponseError, match="lib-name cannot contain spaces, newlines or special characters"):
            db.client_setinfo("LIB-NAME", "a b")


def test_a_client_can_be_killed(server, protocol):
    with client(server.port, protocol=protocol, single_connection_client=True) as victim, client(server.port) as db:
        assert db.client_kill_filter(_id=victim.client_id()) == 1
        with pytest.raises(redis.ConnectionError):
            victim.ping()


def test_ping_echo_time_select(db):
    assert db.ping() is True
    assert db.echo("héllo\0") == "héllo\0".encode()
    seconds, microseconds = db.time()
    assert seconds > 1_600_000_000
    assert 0 <= microseconds < 1_000_000
    assert db.wait(0, 100) >= 0


def test_info_is_parsed(db):
    info = db.info()
    assert info["redis_version"].startswith("7.")
    assert info["role"] == "master"
    for field in ("process_id", "uptime_in_seconds", "connected_clients", "used_memory", "total_commands_processed"):
        assert isinstance(info[field], int), field
    db.set("k", "v", ex=100)
    assert db.info("keyspace")["db0"]["keys"] == 1
    assert db.info("keyspace")["db0"]["expires"] == 1
    assert "redis_version" not in db.info("clients")


@pytest.mark.redraft_only
def test_info_tells_of_the_group(server):
    seen = []
    for port in server.ports:
        with client(port) as db:
            info = db.info("raft")
        assert len(str(info["cluster_id"])) == 40
        assert info["term"] > 0
        assert info["applied_index"] <= info["commit_index"]
        seen.append(info)
    assert len({str(info["cluster_id"]) for info in seen}) == 1
    assert len({info["node_id"] for info in seen}) == len(server.ports)
    assert sorted(info["raft_role"] for info in seen) == ["follower"] * (len(seen) - 1) + ["leader"]


@pytest.mark.redraft_only
def test_both_versions_are_reported(db):
    info = db.info("server")
    assert info["redis_version"].startswith("7.2.")
    assert info["redraft_version"]


def test_config_is_read_and_changed(db):
    assert int(db.config_get("maxclients")["maxclients"]) > 0
    assert db.config_get("databases") == {"databases": "16"}
    both = db.config_get("appendonly", "save")
    assert set(both) == {"appendonly", "save"}
    before = db.config_get("timeout")["timeout"]
    assert db.config_set("timeout", 1234) is True
    assert db.config_get("timeou*") == {"timeout": "1234"}
    assert db.config_set("timeout", before) is True
    assert db.config_resetstat() is True


def test_commands_describe_themselves(db):
    commands = db.command()
    assert commands["get"]["arity"] == 2
    assert commands["get"]["first_key_pos"] == 1
    assert "readonly" in commands["get"]["flags"]
    assert db.command_count() == len(commands)
    assert list(map(text, db.command_getkeys("MSET", "a", "1", "b", "2"))) == ["a", "b"]
    assert text(db.role()[0]) == "master"


ERRORS = [
    (["NOSUCH", "a", "b"], "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "),
    (["GET"], "ERR wrong number of arguments for 'get' command"),
    (["get", "a", "b"], "ERR wrong number of arguments for 'get' command"),
    (["MSET", "a", "1", "b"], "ERR wrong number of arguments for 'mset' command"),
    (["SET", "k", "v", "NX", "XX"], "ERR syntax error"),
    (["SET", "k", "v", "EX", "1", "PX", "1"], "ERR syntax error"),
    (["SET", "k", "v", "EX", "0"], "ERR invalid expire time in 'set' command"),
    (["SET", "k", "v", "EX", "x"], "ERR value is not an integer or out of range"),
    (["SETEX", "k", "-1", "v"], "ERR invalid expire time in 'setex' command"),
    (["GETEX", "text", "EX", "0"], "ERR invalid expire time in 'getex' command"),
    (["INCR", "text"], "ERR value is not an integer or out of range"),
    (["INCRBY", "largest", "1"], "ERR increment or decrement would overflow"),
    (["DECRBY", "largest", "-9223372036854775808"], "ERR decrement would overflow"),
    (["INCRBYFLOAT", "text", "1"], "ERR value is not a valid float"),
    (["INCRBYFLOAT", "largest", "x"], "ERR value is not a valid float"),
    (["SETRANGE", "k", "-1", "x"], "ERR offset is out of range"),
    (["SETRANGE", "k", "536870912", "x"], "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
    (["EXPIRE", "text", "1", "NX", "GT"], "ERR NX and XX, GT or LT options at the same time are not compatible"),
    (["EXPIRE", "text", "1", "GT", "LT"], "ERR GT and LT options at the same time are not compatible"),
    (["EXPIRE", "text", "1", "FOO"], "ERR Unsupported option FOO"),
    (["EXPIRE", "text", "9223372036854775807"], "ERR invalid expire time in 'expire' command"),
    (["RENAME", "missing", "x"], "ERR no such key"),
    (["COPY", "text", "text"], "ERR source and destination objects are the same"),
    (["MOVE", "text", "0"], "ERR source and destination objects are the same"),
    (["MOVE", "text", "16"], "ERR DB index is out of range"),
    (["SELECT", "16"], "ERR DB index is out of range"),
    (["SELECT", "x"], "ERR value is not an integer or out of range"),
    (["SCAN", "x"], "ERR invalid cursor"),
    (["SCAN", "0", "COUNT", "0"], "ERR syntax error"),
    (["CLIENT", "NOSUCH"], "ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
    (["CLIENT", "REPLY", "MAYBE"], "ERR syntax error"),
    (["CLIENT", "SETNAME", "a b"], "ERR Client names cannot contain spaces, newlines or special characters."),
    (["CONFIG", "SET", "nope", "1"], "ERR Unknown option or number of arguments for CONFIG SET - 'nope'"),
    (
        ["CONFIG", "SET", "databases", "3"],
        "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
    ),
    (
        ["CONFIG", "SET", "timeout", "-1"],
        "ERR CONFIG SET failed (possibly related to argument 'timeout') - argument must be between 0 and 2147483647 inclusive",
    ),
    (["CLUSTER", "INFO"], "ERR This instance has cluster support disabled"),
    (
        ["AUTH", "x"],
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
    ),
]


@pytest.mark.parametrize(("command", "error"), ERRORS, ids=[" ".join(command) for command, _ in ERRORS])
def test_errors_are_those_of_redis(server, command, error):
    with client(server.port) as db:
        db.mset({"text": "x", "largest": "9223372036854775807"})
    assert raw(server.ports[-1], *command) == [f"-{error}"]


PROTOCOL_ERRORS = [
    (b"*1\r\nPING\r\n", b"-ERR Protocol error: expected '$', got 'P'\r\n"),
    (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$99999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*99999999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b'set "a\r\n', b"-ERR Protocol error: unbalanced quotes in request\r\n"),
]


@pytest.mark.parametrize(("request_bytes", "answer"), PROTOCOL_ERRORS)
def test_protocol_errors_are_told_and_close_the_connection(server, request_bytes, answer):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request_bytes)
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert received == answer


@pytest.mark.parametrize("verb", [b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_http_closes_the_connection(server, verb):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(verb)
        while connection.recv(4096):
            pass


def test_inline_commands_are_understood(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection, connection.makefile("rb") as stream:
        connection.sendall(b'SET inline "a b"\r\n\r\nGET inline\nPING\r\n')
        assert [stream.readline() for _ in range(4)] == [b"+OK\r\n", b"$3\r\n", b"a b\r\n", b"+PONG\r\n"]


def test_quit_and_reset(server):
    assert raw(server.port, "RESET") == ["+RESET"]
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"QUIT\r\n")
        assert connection.recv(100) == b"+OK\r\n"
        assert connection.recv(100) == b""


@pytest.mark.redraft_only
def test_passwords_are_asked_for(tmp_path, protocol):
    node = Node(tmp_path, requirepass="swordfish")
    try:
        node.start()
        assert raw(node.port, "GET", "k") == ["-NOAUTH Authentication required."]
        with client(node.port, protocol=protocol, password="wrong") as db, pytest.raises(redis.AuthenticationError):
            db.ping()
        with client(node.port, protocol=protocol, password="swordfish") as db:
            assert db.set("k", "v") is True
            assert "swordfish" not in str(db.config_get("*"))
        with client(node.port, protocol=protocol, username="default", password="swordfish") as db:
            assert db.get("k") == b"v"
    finally:
        node.close()
