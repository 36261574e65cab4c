"""Servers under test: real `redraft` processes on free ports of this machine, in directories of their own."""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

import redis

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
DEADLINE_S = 60
POLL_S = 0.02
# Below the range from which the system takes ports for outgoing connections, with room for the peers' ports 10000 above.
BASE_PORTS = range(10000, 22000)
# Small budgets: several nodes share the machine with the tests.
ENVIRONMENT = {"REDRAFT_BLOCK_CACHE_BYTES": "32mb", "REDRAFT_MEMTABLE_BYTES": "32mb", "REDRAFT_DISK_RESERVE": "0"}


def binary() -> str:
    """The binary under test: what make names, or what it has built last."""
    named = os.environ.get("REDRAFT_BIN")
    candidates = [pathlib.Path(named)] if named else [CHECKOUT / "target" / profile / "redraft" for profile in ("debug", "release")]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate)
    raise FileNotFoundError(f"no redraft at {' or '.join(map(str, candidates))}: run make build, or set REDRAFT_BIN")


def wait_until(condition, what: str, deadline_s: float = DEADLINE_S):
    """The condition's first true value; a refused connection or an error reply counts as not yet."""
    end = time.monotonic() + deadline_s
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (redis.RedisError, OSError, subprocess.SubprocessError) as error:
            last = error
        time.sleep(POLL_S)
    raise TimeoutError(f"{what}: not within {deadline_s} s; last: {last!r}")


def _free(ports) -> bool:
    with contextlib.ExitStack() as stack:
        for port in ports:
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_base_port(nodes: int) -> int:
    """A base port whose nodes' client, admin and peer ports are all free."""
    for _ in range(1000):
        base = random.choice(BASE_PORTS)
        if _free(base + offset + node for offset in (0, 1000, 10000) for node in range(nodes)):
            return base
    raise OSError("no free ports")


def client(port: int, **options) -> redis.Redis:
    """A client of redis-py as an application makes one, but that it never tries again by itself: a test wants to see errors."""
    options = {"socket_timeout": 30, "retry": None} | options
    return redis.Redis(host="127.0.0.1", port=port, **options)


def raw(port: int, *arguments, reply_lines: int = 1) -> list[str]:
    """The first lines of the reply to one command, as the server wrote them."""
    encoded = [argument if isinstance(argument, bytes) else str(argument).encode() for argument in arguments]
    request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in encoded)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            return [stream.readline().decode().removesuffix("\r\n") for _ in range(reply_lines)]


class Node:
    """One node that forms a cluster of its own."""

    def __init__(self, directory: pathlib.Path, **options):
        self.directory = directory
        self.options = options
        self.port = free_base_port(1)
        self.ports = [self.port]
        self.log = directory / "redraft.log"
        self.process = None

    def start(self) -> "Node":
        flags = {"data-dir": self.directory / "data", "listen": f"127.0.0.1:{self.port}"}
        flags |= {"peer-listen": f"127.0.0.1:{self.port + 10000}", "admin-listen": f"127.0.0.1:{self.port + 1000}"}
        flags |= {name.replace("_", "-"): value for name, value in self.options.items()}
        command = [binary(), "server", *(f"--{name}={value}" for name, value in flags.items())]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | ENVIRONMENT)
        wait_until(self._answers, f"the node answers (log: {self.log})")
        return self

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()
            raise AssertionError(f"the node ended with {self.process.returncode}: {lines[-1] if lines else 'no log'}")
        with client(self.port, password=self.options.get("requirepass")) as connection:
            return connection.exists("nothing") == 0

    def stop(self) -> int:
        """Stops the node as an operator does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()


class Cluster:
    """Three nodes under the supervisor of `redraft cluster`."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory / "cluster"
        base = free_base_port(3)
        self.ports = [base, base + 1, base + 2]
        self.port = base

    def run(self, command: str, *flags, check: bool = True) -> subprocess.CompletedProcess:
        """A `redraft cluster` command."""
        line = [binary(), "cluster", command, "--dir", str(self.directory), *flags]
        done = subprocess.run(line, capture_output=True, text=True, timeout=180, env=os.environ | ENVIRONMENT)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(line)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self) -> "Cluster":
        self.run("start", "--nodes", "3", "--base-port", str(self.port))
        return self

    def status(self) -> list[dict]:
        return json.loads(self.run("status", "--json").stdout)

    def leader(self) -> int:
        """Position of the leader among `ports`, once there is exactly one."""

        def found():
            leaders = [position for position, node in enumerate(self.status()) if node["role"] == "leader"]
            return [leaders[0]] if len(leaders) == 1 else None

        return wait_until(found, "one node leads")[0]

    def wait_until_healthy(self):
        wait_until(lambda: self.run("health", check=False).returncode == 0, "the cluster is healthy")

    def kill(self, position: int) -> int:
        """Kills a node; its pid."""
        pid = self.status()[position]["pid"]
        os.kill(pid, signal.SIGKILL)
        return pid

    def close(self):
        if (self.directory / "cluster.json").exists():
            self.run("stop")
