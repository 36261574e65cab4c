"""The HTTP interface of the admin listener, as an application without a Redis client sees it: with Python's own client, on any node."""

import base64
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import threading
import time
from urllib.parse import quote

import pytest

from servers import Node, client, wait_until

DEADLINE_S = 20


class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json()["error"]["code"]


def ask(port: int, method: str, path: str, body=None, timeout=DEADLINE_S, **headers) -> Answer:
    """One request on a connection of its own. A body that is no bytes goes out as JSON."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture
def admin(server) -> int:
    """The admin port of the last node, which in a cluster is most often a follower."""
    return server.ports[-1] + 1000


def put(port, key, value, **more) -> Answer:
    return ask(port, "PUT", f"/kv/{quote(key, safe='')}", {"value": value, **more})


def test_a_key_is_put_read_and_deleted(admin, db):
    written = put(admin, "a/b ü", "text")
    assert (written.status, written.json()["key"]) == (200, "a/b ü")
    assert db.get("a/b ü") == b"text"
    found = ask(admin, "GET", f"/kv/{quote('a/b ü', safe='')}")
    assert found.json() == {
        "key": "a/b ü", "type": "string", "value": "text", "size": 4, "ttl": None, "revision": written.json()["revision"],
    }
    assert found.headers["ETag"] == written.headers["ETag"] == f'"{written.json()["revision"]}"'
    assert ask(admin, "DELETE", f"/kv/{quote('a/b ü', safe='')}").json()["deleted"] is True
    assert ask(admin, "DELETE", f"/kv/{quote('a/b ü', safe='')}").json()["deleted"] is False
    assert (ask(admin, "GET", "/kv/nope").status, ask(admin, "GET", "/kv/nope").code) == (404, "not_found")


@pytest.mark.parametrize("key", [b"", b".", b"..", b"batch", b"a/b", b"\xff\xef\xbe"])
def test_any_key_can_stand_in_the_query_string(admin, db, key):
    path = f"/kv/?key64={base64.urlsafe_b64encode(key).decode().rstrip('=')}"
    assert ask(admin, "PUT", path, {"value": "v"}).status == 200
    assert db.get(key) == b"v"
    assert ask(admin, "GET", path).json()["value"] == "v"
    assert ask(admin, "DELETE", path).json()["deleted"] is True
    assert ask(admin, "GET", path).code == "not_found"


def test_json_is_kept_as_compact_text(admin, db):
    ask(admin, "PUT", "/kv/j", b'{"value": { "b" : [1, 2.50, 12345678901234567890], "a": " x " }}', Content_Type="application/json")
    assert db.get("j") == b'{"b":[1,2.50,12345678901234567890],"a":" x "}'
    assert ask(admin, "GET", "/kv/j?as=json").body.endswith(b'"value":{"b":[1,2.50,12345678901234567890],"a":" x "}}')
    put(admin, "j", "no json")
    assert ask(admin, "GET", "/kv/j?as=json").json()["value"] == "no json"


def test_bytes_go_in_and_out_as_they_are(admin, db):
    value = bytes(range(256))
    ask(admin, "PUT", "/kv/%00%ff?ttl=100", value, Content_Type="application/octet-stream")
    assert db.get(b"\x00\xff") == value
    raw = ask(admin, "GET", "/kv/%00%ff", Accept="application/octet-stream")
    assert raw.body == value
    assert 0 < float(raw.headers["Redraft-TTL"]) <= 100
    found = ask(admin, "GET", "/kv/%00%ff").json()
    assert (base64.b64decode(found["value"]), found["encoding"], found["key_encoding"]) == (value, "base64", "base64")


def test_a_time_to_live_is_set_and_cleared(admin, db):
    put(admin, "k", "v", ttl=50.5)
    assert 50_000 < db.pttl("k") <= 50_500
    assert 50 < ask(admin, "GET", "/kv/k").json()["ttl"] <= 50.5
    put(admin, "k", "v")
    assert ask(admin, "GET", "/kv/k").json()["ttl"] is None


def test_a_write_may_depend_on_what_was_seen(admin, db):
    assert ask(admin, "PUT", "/kv/k", {"value": 1}, If_None_Match="*").status == 201
    assert ask(admin, "PUT", "/kv/k", {"value": 2}, If_None_Match="*").code == "precondition_failed"
    seen = ask(admin, "GET", "/kv/k").headers["ETag"]
    assert ask(admin, "PUT", "/kv/k", {"value": 3}, If_Match=seen).status == 200
    assert ask(admin, "PUT", "/kv/k", {"value": 4}, If_Match=seen).status == 412
    assert ask(admin, "DELETE", "/kv/k", If_Match=seen).status == 412
    assert db.get("k") == b"3"
    assert ask(admin, "DELETE", "/kv/k", If_Match=ask(admin, "GET", "/kv/k").headers["ETag"]).json()["deleted"] is True
    assert ask(admin, "PUT", "/kv/k", {"value": 5}, If_Match="*").status == 412


def test_of_many_who_saw_the_same_one_writes(admin, db):
    put(admin, "k", 0)

    def add_one():
        while True:
            seen = ask(admin, "GET", "/kv/k")
            if ask(admin, "PUT", "/kv/k", {"value": int(seen.json()["value"]) + 1}, If_Match=seen.headers["ETag"]).status == 200:
                return

    threads = [threading.Thread(target=add_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert db.get("k") == b"8"


def test_a_batch_is_one_change(admin, db):
    db.mset({"a": 1, "b": 2})
    before = db.execute_command("REVISION", "a")
    assert ask(admin, "POST", "/kv/batch", {"put": {"a": "x", "c": [1]}, "delete": ["b", "nope"]}).json() == {"put": 2, "deleted": 1}
    assert db.mget("a", "b", "c") == [b"x", None, b"[1]"]
    assert db.execute_command("REVISION", "a") > before
    assert ask(admin, "POST", "/kv/batch", {"put": {}}).json() == {"put": 0, "deleted": 0}
    assert ask(admin, "POST", "/kv/batch", {"puts": {}}).code == "bad_json"


def test_keys_come_in_order_page_by_page(admin, db):
    names = [f"k{number:02}" for number in range(25)]
    db.mset({name: name for name in [*names, "j", "l"]})

    def pages(query: str) -> list:
        found, cursor = [], ""
        while cursor is not None:
            page = ask(admin, "GET", f"/kv?{query}&limit=10&cursor={cursor or '0'}").json()
            assert len(page["items"]) <= 10
            found += page["items"]
            cursor = page["cursor"]
        return [item["key"] for item in found]

    assert pages("prefix=k") == names
    assert pages("prefix=k&reverse=true") == names[::-1]
    assert pages("start=k05&end=k08") == ["k05", "k06", "k07"]
    assert pages("start=k05&prefix=k0") == names[5:10]
    db.mset({b"\xff\xff": 1, b"\xff\x00 +": 2, b"\xfe": 3})
    assert [base64.b64decode(key) for key in pages("start=%FE&end=%ff")] == [b"\xfe"]
    assert [base64.b64decode(key) for key in pages("prefix=%ff")] == [b"\xff\x00 +", b"\xff\xff"]
    assert [base64.b64decode(key) for key in pages("start=%ff%00+%2b&end=%ff%01")] == [b"\xff\x00 +"]
    item = ask(admin, "GET", "/kv?prefix=k03&values=false").json()["items"][0]
    assert ("value" not in item, item["size"], item["type"], item["ttl"]) == (True, 3, "string", None)


def test_bad_requests_are_refused_and_say_so(admin, db):
    for method, path, body, headers, status, code in [
        ("PUT", "/kv/k", b"{", {}, 400, "bad_json"),
        ("PUT", "/kv/k", {"value": 1, "tll": 2}, {}, 400, "bad_json"),
        ("PUT", "/kv/k", {}, {}, 400, "bad_json"),
        ("PUT", "/kv/k", {"value": 1, "ttl": 0}, {}, 400, "bad_request"),
        ("PUT", "/kv/k", b"x", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("PUT", "/kv/", {"value": 1}, {}, 400, "bad_request"),
        ("POST", "/kv/batch", {"put": {"k" * 70_000: 1}}, {}, 413, "too_large"),
        ("POST", "/kv/batch", {"delete": ["k"] * (1 << 20)}, {}, 413, "too_large"),
        ("PUT", "/kv/k?db=16", {"value": 1}, {}, 400, "bad_request"),
        ("PUT", "/kv/k", {"value": 1}, {"If-Match": "7"}, 400, "bad_request"),
        ("GET", "/kv?limit=0", None, {}, 400, "bad_request"),
        ("GET", "/kv?limti=1", None, {}, 400, "bad_request"),
        ("GET", "/kv?cursor=x", None, {}, 400, "bad_request"),
        ("GET", "/kv/k?ttl=1", None, {}, 400, "bad_request"),
        ("PUT", "/kv/k?as=json", {"value": 1}, {}, 400, "bad_request"),
        ("DELETE", "/kv/k?as=json", None, {}, 400, "bad_request"),
        ("DELETE", "/kv/k?ttl=1", None, {}, 400, "bad_request"),
        ("POST", "/kv/batch?ttl=1", {"put": {"k": 1}}, {}, 400, "bad_request"),
        ("POST", "/kv/batch?as=json", {"put": {"k": 1}}, {}, 400, "bad_request"),
        ("GET", "/nope", None, {}, 404, "not_found"),
        ("PATCH", "/kv/k", None, {}, 405, "method_not_allowed"),
        ("POST", "/command", {"command": []}, {}, 400, "bad_request"),
    ]:
        answer = ask(admin, method, path, body, **headers)
        assert (answer.status, answer.code, answer.json()["error"]["executed"]) == (status, code, "no"), (method, path, body)
    assert db.dbsize() == 0
    # As `curl -T` sends a file.
    assert "application/octet-stream" in ask(admin, "PUT", "/kv/k", b"bytes").json()["error"]["message"]


def test_large_values_go_in_and_out(admin, db):
    zeros, text = bytes(1 << 20), "ü" * (1 << 19)
    ask(admin, "PUT", "/kv/zeros", zeros, Content_Type="application/octet-stream")
    put(admin, "text", text)
    assert (db.get("zeros"), db.get("text")) == (zeros, text.encode())
    assert ask(admin, "GET", "/kv/zeros").json()["value"] == zeros.decode()
    assert ask(admin, "GET", "/kv/zeros", Accept="application/octet-stream").body == zeros
    items = ask(admin, "GET", "/kv").json()["items"]
    assert [(item["key"], item["value"]) for item in items] == [("text", text), ("zeros", zeros.decode())]
    assert [("value" in item, item["size"]) for item in ask(admin, "GET", "/kv?values=false").json()["items"]] == [(False, 1 << 20)] * 2
    replies = ask(admin, "POST", "/command", {"command": ["MGET", "zeros", "text"]}).json()["reply"]["value"]
    assert [reply["value"] for reply in replies] == [zeros.decode(), text]


def unfinished_put(port: int, length: int) -> http.client.HTTPConnection:
    """A put with a body that lacks its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    connection.putrequest("PUT", "/kv/unfinished")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    for _ in range((length >> 20) - 1):
        connection.send(bytes(1 << 20))
    return connection


def test_requests_share_a_bounded_memory(tmp_path):
    node = Node(tmp_path, request_timeout=2000)
    node.start()
    admin = node.port + 1000
    try:
        # Three times what has arrived is held, and at most three times what was announced: 504 to 510 of 512 MiB.
        unfinished = [unfinished_put(admin, 120 << 20), unfinished_put(admin, 50 << 20)]
        value = bytes(4 << 20)

        def write() -> Answer:
            return ask(admin, "PUT", "/kv/large", value, Content_Type="application/octet-stream")

        # The nodes of a busy machine may not know the outcome of a write in time.
        refused = wait_until(lambda: (answer := write()).status == 503 and answer, "a large body is refused")
        assert (refused.code, refused.json()["error"]["executed"]) == ("overloaded", "no")
        assert refused.headers["Retry-After"] == "1"
        assert put(admin, "small", "value").status == 200
        assert ask(admin, "GET", "/kv/small").json()["value"] == "value"
        for connection in unfinished:
            connection.close()
        wait_until(lambda: write().status == 200, "what was held is given back")
        assert ask(admin, "GET", "/kv/large", Accept="application/octet-stream").body == value
    finally:
        node.close()


def test_a_database_of_its_own(admin, db):
    ask(admin, "PUT", "/kv/k?db=3", {"value": "three"})
    assert (db.get("k"), ask(admin, "GET", "/kv/k").status) == (None, 404)
    assert ask(admin, "GET", "/kv/k?db=3").json()["value"] == "three"


def test_any_command_can_be_sent(admin, db):
    def reply(*command, **more):
        return ask(admin, "POST", "/command", {"command": command, **more}).json()["reply"]

    assert reply("SET", "k", "v") == {"type": "simple", "value": "OK"}
    assert reply("GET", "k") == {"type": "bulk", "value": "v"}
    assert reply("INCR", "k")["type"] == "error"
    assert reply("RAFT", "STATUS")["type"] == "map"
    assert reply("PING") == {"type": "simple", "value": "PONG"}
    assert reply("SUBSCRIBE", "c")["type"] == reply("CLIENT", "ID")["type"] == reply("HELLO", "3")["type"] == "error"


def test_a_node_tells_how_it_is(admin, db):
    assert ask(admin, "GET", "/health/live").json() == {"status": "live"}
    assert ask(admin, "GET", "/health/ready").json() == {"status": "ready"}
    db.set("k", "v")
    stats = ask(admin, "GET", "/stats").json()
    assert (stats["keys"]["0"], stats["commands_processed"] > 0) == ({"keys": 1, "expires": 0}, True)
    assert ask(admin, "GET", "/info").json()["server"]["redis_version"] == db.info("server")["redis_version"]
    replication = ask(admin, "GET", "/debug/replication").json()["groups"][0]
    assert replication["applied_index"] > 0
    for peer in replication["peers"]:
        assert peer["lag_bytes"] >= peer["lag_entries"] >= 0 and peer["snapshot_progress"] is None
    options = {row["name"]: row for row in ask(admin, "GET", "/debug/config").json()}
    assert (options["maxclients"]["value"], options["maxclients"]["changeable"]) == ("10000", True)
    assert sorted(name for name, row in options.items() if row["secret"]) == ["peer-secret", "requirepass"]
    cluster = ask(admin, "GET", "/cluster").json()
    assert [member["reachable"] for member in cluster["members"]] == [True] * len(cluster["members"])
    assert cluster["events"][-1]["kind"] == "start"
    leads = cluster["leader_id"] == cluster["node_id"]
    assert all((member["lag_entries"] is not None) == leads for member in cluster["members"])


def test_slow_commands_are_told_without_keys_and_values(own_node):
    admin = own_node.port + 1000
    with client(own_node.port) as db:
        db.config_set("slowlog-log-slower-than", 0)
        db.set("secret-key", "secret-value")
        rows = ask(admin, "GET", "/debug/slowlog").json()
        assert (rows[0]["command"], rows[0]["arguments"], rows[0]["bytes"]) == ("set", 3, 25)
        assert b"secret" not in ask(admin, "GET", "/debug/slowlog").body
        assert db.slowlog_get()[0]["command"] == b"SET secret-key secret-value"
        assert db.slowlog_len() > 0
        db.slowlog_reset()
        assert all(entry["command"] == b"SLOWLOG RESET" for entry in db.slowlog_get())


def test_metrics_count_what_was_done(admin, db):
    def value(name: str) -> float:
        lines = ask(admin, "GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " "))

    sets, sums = 'redraft_commands_total{command="set"}', 'redraft_command_duration_seconds_count{class="write"}'
    times = 'redraft_command_times_seconds_count{command="set"}'
    before = value(sets), value(sums), value(times)
    started = value("redraft_process_start_time_seconds")
    for number in range(10):
        db.set(f"metric-key-{number}", "metric-value")
    assert (value(sets) - before[0], value(sums) - before[1], value(times) - before[2]) == (10, 10, 10)
    assert value('redraft_raft_has_leader{group="1"}') == 1
    assert value("redraft_process_start_time_seconds") == started
    text = ask(admin, "GET", "/metrics").body
    assert text.endswith(b"# EOF\n")
    assert b"metric-key" not in text and b"metric-value" not in text


def test_unknown_commands_are_counted(admin):
    def count() -> float:
        name = 'redraft_command_errors_total{command="unknown",kind="rejected"} '
        (line,) = [line for line in ask(admin, "GET", "/metrics").body.decode().splitlines() if line.startswith(name)]
        return float(line.removeprefix(name))

    before = count()
    for name in ("nosuchcommand", "norsuchone"):
        assert ask(admin, "POST", "/command", {"command": [name]}).json()["reply"]["type"] == "error"
    assert count() == before + 2


def test_error_replies_are_counted_as_those_of_clients(admin, db):
    def count(prefix: str) -> float:
        name = f'redraft_error_replies_total{{prefix="{prefix}"}} '
        return sum(float(line.removeprefix(name)) for line in ask(admin, "GET", "/metrics").body.decode().splitlines() if line.startswith(name))

    before = count("ERR")
    assert ask(admin, "POST", "/command", {"command": ["GET"]}).json()["reply"]["type"] == "error"
    assert ask(admin, "POST", "/command", {"command": ["CONFIG", "SET", "nosuchoption", "1"]}).json()["reply"]["type"] == "error"
    assert ask(admin, "GET", "/kv?cursor=nonsense").status == 400
    assert count("ERR") == before + 3


def test_connections_that_are_too_many_are_counted(own_node):
    def rejected() -> int:
        name = "redraft_admin_connections_rejected_total "
        (line,) = [line for line in ask(own_node.port + 1000, "GET", "/metrics").body.decode().splitlines() if line.startswith(name)]
        return int(float(line.removeprefix(name)))

    assert rejected() == 0
    with contextlib.ExitStack() as stack:
        for _ in range(256):
            stack.enter_context(socket.create_connection(("127.0.0.1", own_node.port + 1000)))
        one_more = stack.enter_context(socket.create_connection(("127.0.0.1", own_node.port + 1000), timeout=DEADLINE_S))
        assert one_more.recv(1) == b""
    wait_until(lambda: rejected() >= 1, "the refusal is counted")
    assert "refused a connection to the admin listener" in own_node.log.read_text()


def test_others_are_kept_out(tmp_path):
    node = Node(tmp_path, requirepass="secret")
    node.start()
    try:
        admin = node.port + 1000
        assert ask(admin, "GET", "/health/live").status == ask(admin, "GET", "/health/ready").status == ask(admin, "GET", "/").status == 200
        for path in ("/stats", "/kv/k", "/kv", "/metrics", "/info", "/cluster", "/debug/config", "/openapi.json"):
            refused = ask(admin, "GET", path)
            assert (refused.status, refused.code) == (401, "unauthorized"), path
        for password, status in (("secret", 200), ("wrong", 401), ("", 401)):
            basic = base64.b64encode(f"anybody:{password}".encode()).decode()
            assert ask(admin, "GET", "/stats", Authorization=f"Basic {basic}").status == status
            assert ask(admin, "GET", "/stats", Authorization=f"Bearer {password}").status == status
        options = {row["name"]: row["value"] for row in ask(admin, "GET", "/debug/config", Authorization="Bearer secret").json()}
        assert "secret" not in options["requirepass"]
    finally:
        node.close()


def test_pages_of_other_sites_are_kept_out(node):
    admin = node.port + 1000
    for headers, status in [
        ({"Host": "evil.example"}, 403),
        ({"Host": f"evil.example:{admin}"}, 403),
        ({"Host": f"localhost:{admin}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"http://127.0.0.1:{admin}"}, 200),
        ({"Origin": f"http://localhost:{admin}"}, 200),
        ({"Origin": f"https://127.0.0.1:{admin}"}, 200),
        ({"Origin": f"https://127.0.0.1:{admin + 1}"}, 403),
        ({"Origin": "https://evil.example"}, 403),
    ]:
        assert ask(admin, "GET", "/stats", **headers).status == status, headers
        assert ask(admin, "PUT", "/kv/forged", {"value": 1}, **headers).status == status, headers
    preflight = ask(admin, "OPTIONS", "/kv/k", Origin=f"http://127.0.0.1:{admin}", Access_Control_Request_Method="PUT")
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, f"http://127.0.0.1:{admin}")
    page = ask(admin, "GET", "/")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_a_node_may_have_more_names(tmp_path):
    node = Node(tmp_path, admin_hosts="redraft.example,Other.example")
    node.start()
    try:
        for headers, status in [
            ({"Host": "redraft.example"}, 200),
            ({"Host": "OTHER.example:8379"}, 200),
            ({"Host": "third.example"}, 403),
            ({"Host": "redraft.example", "Origin": "https://redraft.example"}, 200),
            ({"Host": "redraft.example", "Origin": "https://other.example"}, 403),
            ({"Origin": "https://redraft.example"}, 403),
        ]:
            assert ask(node.port + 1000, "GET", "/stats", **headers).status == status, headers
    finally:
        node.close()


def test_the_description_is_complete(node):
    document = ask(node.port + 1000, "GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert {("put", "/kv/{key}"), ("get", "/kv/{key}"), ("delete", "/kv/{key}"), ("post", "/kv/batch"), ("get", "/kv")} <= operations
    for method, path in operations:
        if method == "get" and "{" not in path:
            answer = ask(node.port + 1000, "GET", path)
            assert str(answer.status) in document["paths"][path]["get"]["responses"], path


def test_a_failover_is_a_pause(own_cluster):
    own_cluster.wait_until_healthy()
    rows = own_cluster.status()
    leader = own_cluster.leader()
    admin = int(rows[(leader + 1) % 3]["admin"].rpartition(":")[2])
    put(admin, "before", "kept")
    os.kill(rows[leader]["pid"], signal.SIGKILL)
    began = time.monotonic()
    answer = put(admin, "after", "written")
    assert answer.status == 200 or answer.json()["error"]["executed"] == "unknown"
    assert time.monotonic() - began < DEADLINE_S
    assert ask(admin, "GET", "/kv/before").json()["value"] == "kept"


# ---- Everything that can be done with keys, on any node, while the leader is killed ----

# How a node may decline: status, code, and whether the request was executed.
REFUSALS = {
    (503, "no_leader", "no"),
    (503, "overloaded", "no"),
    (503, "loading", "no"),
    (504, "timeout_unknown", "unknown"),
}


class Unknown(Exception):
    """Nobody knows whether a write was executed."""


class Application:
    """Does everything that can be done with keys, round after round, each request at the next node, and judges every answer.

    In each round its keys are new and its own, so it knows what every answer must be. A request that was not executed is sent again, to
    the next node, and answered as if the first had never been. What an unknown outcome leaves behind is unknown, so it ends the round.
    """

    def __init__(self, name: str, admins: list[int]):
        self.name = name
        self.admins = itertools.cycle(admins)
        self.begun = self.finished = 0
        self.added = self.maybe_added = 0
        self.fault = None

    def ask(self, method: str, path: str, body=None, **headers) -> Answer:
        while True:
            try:
                answer = ask(next(self.admins), method, path, body, **headers)
            except ConnectionRefusedError:
                continue
            except (OSError, http.client.HTTPException) as error:
                if method == "GET":
                    continue
                raise Unknown from error
            if answer.status < 500:
                return answer
            executed = answer.json()["error"]["executed"]
            assert (answer.status, answer.code, executed) in REFUSALS
            if executed == "unknown":
                raise Unknown

    def round(self):
        prefix = f"{self.name}:{self.begun}:"
        a, b, c = (f"/kv/{prefix}{name}" for name in "abc")
        created = self.ask("PUT", a, {"value": "first"}, If_None_Match="*")
        assert created.status == 201
        seen = self.ask("GET", a)
        assert (seen.json()["value"], seen.headers["ETag"]) == ("first", created.headers["ETag"])
        assert self.ask("PUT", a, {"value": "second"}, If_Match=seen.headers["ETag"]).status == 200
        assert self.ask("PUT", a, {"value": "third"}, If_Match=seen.headers["ETag"]).status == 412
        assert self.ask("GET", a).json()["value"] == "second"
        batch = {"put": {f"{prefix}b": "new", f"{prefix}c": 3}, "delete": [f"{prefix}a"]}
        assert self.ask("POST", "/kv/batch", batch).json() == {"put": 2, "deleted": 1}
        page = self.ask("GET", f"/kv?prefix={prefix}").json()
        assert [(item["key"], item["value"]) for item in page["items"]] == [(f"{prefix}b", "new"), (f"{prefix}c", "3")]
        assert self.ask("DELETE", b).json()["deleted"] is True
        assert self.ask("GET", b).status == 404
        assert self.ask("DELETE", c).json()["deleted"] is True
        assert self.ask("GET", f"/kv?prefix={prefix}").json()["items"] == []
        self.add_one()

    def add_one(self):
        """To a number that all applications count in."""
        seen = self.ask("GET", "/kv/count")
        try:
            answer = self.ask("PUT", "/kv/count", {"value": int(seen.json()["value"]) + 1}, If_Match=seen.headers["ETag"])
        except Unknown:
            self.maybe_added += 1
            raise
        assert answer.status in (200, 412)
        self.added += answer.status == 200

    def run(self, stop: threading.Event):
        try:
            while not stop.is_set():
                self.begun += 1
                with contextlib.suppress(Unknown):
                    self.round()
                    self.finished += 1
        except BaseException as fault:
            self.fault = fault


@contextlib.contextmanager
def at_work(applications: list[Application]):
    stop = threading.Event()
    threads = [threading.Thread(target=each.run, args=(stop,)) for each in applications]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wait_for_rounds(applications: list[Application]):
    """Until every application has finished three rounds more."""
    wanted = [application.finished + 3 for application in applications]

    def finished() -> bool:
        for application in applications:
            if application.fault:
                raise application.fault
        return all(application.finished >= rounds for application, rounds in zip(applications, wanted))

    wait_until(finished, "every application goes on")


def test_no_answer_is_wrong_while_the_leader_is_killed(own_cluster):
    own_cluster.wait_until_healthy()
    admins = [port + 1000 for port in own_cluster.ports]
    put(admins[0], "count", 0)
    applications = [Application(f"application-{number}", admins[number % 3 :] + admins[: number % 3]) for number in range(6)]
    with at_work(applications):
        wait_for_rounds(applications)
        leader = own_cluster.leader()
        survivor = admins[(leader + 1) % 3]
        term = ask(survivor, "GET", "/cluster").json()["term"]
        own_cluster.kill(leader)
        wait_until(lambda: ask(survivor, "GET", "/cluster").json()["term"] > term, "there is a new leader")
        wait_for_rounds(applications)
        own_cluster.wait_until_healthy()
        wait_for_rounds(applications)
    for application in applications:
        if application.fault:
            raise application.fault
    count = int(ask(survivor, "GET", "/kv/count").json()["value"])
    added, maybe_added = sum(each.added for each in applications), sum(each.maybe_added for each in applications)
    assert added <= count <= added + maybe_added
