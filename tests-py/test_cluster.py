"""Three nodes under `redraft cluster`: failures, restarts, and what the commands say."""

import os
import shutil
import signal
import time

import pytest
import redis

from servers import client, wait_until

pytestmark = pytest.mark.redraft_only


def write_until_acknowledged(port: int, key: str, value: str):
    """SET is safe to repeat, so a client may try again whatever the error says."""

    def attempt():
        with client(port) as db:
            return db.set(key, value)

    wait_until(attempt, f"SET {key} is acknowledged")


def test_status_and_health_tell_the_truth(own_cluster):
    cluster = own_cluster
    rows = cluster.status()
    fields = ["node_id", "pid", "listen", "peer", "admin", "alive", "role", "term", "applied_index"]
    assert [list(row) for row in rows] == [fields] * 3
    assert sorted(row["role"] for row in rows) == ["follower", "follower", "leader"]
    assert [row["listen"] for row in rows] == [f"127.0.0.1:{port}" for port in cluster.ports]
    assert [row["node_id"] for row in rows] == [1, 2, 3], "the group numbers the first nodes as the commands do"
    assert all(row["alive"] for row in rows)
    cluster.wait_until_healthy()
    table = cluster.run("status").stdout
    assert table.count("follower") == 2
    assert "already runs" in cluster.run("start").stdout
    cluster.run("stop")
    assert cluster.run("status", check=False).returncode == 1
    assert cluster.run("health", check=False).returncode == 1
    cluster.run("stop")


def test_the_cluster_goes_on_without_its_leader(own_cluster):
    cluster = own_cluster
    for turn in range(3):
        position = cluster.leader()
        survivor = cluster.ports[(position + 1) % 3]
        write_until_acknowledged(survivor, f"before:{turn}", "x")
        killed = cluster.kill(position)
        start = time.monotonic()
        write_until_acknowledged(survivor, f"after:{turn}", "x")
        assert time.monotonic() - start < 10
        wait_until(lambda: cluster.status()[position]["pid"] not in (None, killed), "the supervisor brings the node back", deadline_s=2)
        cluster.wait_until_healthy()
    for port in cluster.ports:
        with client(port) as db:
            assert db.dbsize() == 6


def test_everything_survives_when_all_nodes_are_killed(own_cluster):
    cluster = own_cluster
    expected = {}
    for turn in range(3):
        with client(cluster.ports[turn]) as db:
            for number in range(100):
                key = f"{turn}:{number}"
                if db.set(key, number):
                    expected[key.encode()] = str(number).encode()
        for row in cluster.status():
            os.kill(row["pid"], signal.SIGKILL)
        cluster.run("start")
        cluster.wait_until_healthy()
    with client(cluster.ports[0]) as db:
        assert dict(zip(expected, db.mget(list(expected)))) == expected


def test_a_wiped_node_joins_again_as_a_new_one(own_cluster):
    cluster = own_cluster
    write_until_acknowledged(cluster.port, "k", "v")
    position = (cluster.leader() + 1) % 3
    before = cluster.status()[position]
    with client(cluster.port) as db:
        cluster_id = db.info("raft")["cluster_id"]
    os.kill(before["pid"], signal.SIGSTOP)
    shutil.rmtree(cluster.directory / f"node-{position + 1}")
    os.kill(before["pid"], signal.SIGKILL)

    def back():
        row = cluster.status()[position]
        return row["node_id"] not in (None, 0, before["node_id"]) and row["role"] in ("follower", "leader")

    wait_until(back, "the node is a voter again, under a new id")
    cluster.wait_until_healthy()
    with client(cluster.ports[position]) as db:
        assert db.get("k") == b"v"
        assert db.info("raft")["cluster_id"] == cluster_id


def test_data_survives_stop_and_start(own_cluster):
    cluster = own_cluster
    write_until_acknowledged(cluster.port, "k", "v")
    cluster.run("stop")
    with pytest.raises(redis.ConnectionError), client(cluster.port) as db:
        db.ping()
    cluster.start()
    with client(cluster.ports[-1]) as db:
        assert db.get("k") == b"v"


def test_a_rolling_restart_is_not_noticed_on_other_nodes(own_cluster):
    cluster = own_cluster
    pids = [row["pid"] for row in cluster.status()]
    cluster.run("restart")
    cluster.wait_until_healthy()
    assert not set(pids) & {row["pid"] for row in cluster.status()}
    write_until_acknowledged(cluster.port, "k", "v")


def test_one_node_survives_a_kill(own_node):
    with client(own_node.port) as db:
        assert [db.incr("n") for _ in range(50)] == list(range(1, 51))
    own_node.kill()
    own_node.start()
    with client(own_node.port) as db:
        assert db.get("n") == b"50"
    assert own_node.stop() == 0
