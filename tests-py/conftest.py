"""Fixtures: a node, a cluster, and clients of redis-py to either, in both protocols.

The servers live for the whole run, since starting them costs seconds; every test begins with an empty keyspace. Tests that stop or kill
nodes take `own_node` or `own_cluster`, which nobody else sees.
"""

import pytest

from servers import Cluster, Node, client


def pytest_addoption(parser):
    parser.addoption(
        "--server",
        metavar="PORT",
        type=int,
        help="run against the server on this port of this machine, say Redis itself, to see whether a test is right; "
        "tests marked redraft_only are left out",
    )


class Running:
    """A server that was there before."""

    def __init__(self, port: int):
        self.port = port
        self.ports = [port]


def pytest_collection_modifyitems(config, items):
    if config.getoption("--server") is None:
        return

    def wanted(item) -> bool:
        return not item.get_closest_marker("redraft_only") and "three nodes" not in item.nodeid

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


@pytest.fixture(scope="session")
def node(request, tmp_path_factory):
    """One node, shared by all tests."""
    port = request.config.getoption("--server")
    if port is not None:
        yield Running(port)
        return
    server = Node(tmp_path_factory.mktemp("node"))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Three nodes, shared by all tests."""
    server = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def own_node(tmp_path):
    """One node for one test."""
    server = Node(tmp_path)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def own_cluster(tmp_path):
    """Three nodes for one test."""
    server = Cluster(tmp_path)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(params=["one node", "three nodes"])
def server(request):
    """A server with an empty keyspace: one node, then three."""
    started = request.getfixturevalue("node" if request.param == "one node" else "cluster")
    with client(started.port) as connection:
        connection.flushall()
    return started


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def protocol(request) -> int:
    """The version of the protocol that the client speaks."""
    return request.param


@pytest.fixture
def db(server, protocol):
    """A client of redis-py that talks to the last node of the server: in a cluster, most often a follower."""
    with client(server.ports[-1], protocol=protocol) as connection:
        yield connection
