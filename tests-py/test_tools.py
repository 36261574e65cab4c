"""redis-cli and redis-benchmark, as people use them."""

import re
import subprocess

import pytest


def run(*command, stdin: bytes = b"", timeout_s: float = 100) -> str:
    """What a tool prints, on both of its outputs."""
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s, check=True)
    return done.stdout.decode(errors="replace")


def cli(server, *arguments, stdin: bytes = b"") -> str:
    return run("redis-cli", "-p", str(server.ports[-1]), *arguments, stdin=stdin).strip()


def test_redis_cli_runs_commands(server):
    assert cli(server, "SET", "k", "v") == "OK"
    assert cli(server, "GET", "k") == "v"
    assert cli(server, "-3", "GET", "k") == "v"
    assert cli(server, "INCR", "n") == "1"
    assert cli(server, "-n", "3", "GET", "k") == ""
    assert cli(server, "-x", "SET", "from stdin", stdin=b"\x00\xff") == "OK"
    assert cli(server, "STRLEN", "from stdin") == "2"
    assert cli(server, stdin=b"SET a 1\nGET a\nNOSUCH\n").splitlines()[:2] == ["OK", "1"]


def test_redis_cli_scans(server):
    assert cli(server, stdin=b"".join(b"SET key:%d x\n" % number for number in range(300))).split() == ["OK"] * 300
    assert len(cli(server, "--scan").split()) == 300
    assert sorted(cli(server, "--scan", "--pattern", "key:29?").split()) == [f"key:{number}" for number in range(290, 300)]
    report = cli(server, "--bigkeys")
    assert "Sampled 300 keys" in report


def test_redis_cli_inserts_in_bulk(server):
    commands = b"".join(b"*3\r\n$3\r\nSET\r\n$6\r\nb%05d\r\n$1\r\nx\r\n" % number for number in range(5000))
    assert "errors: 0, replies: 5000" in cli(server, "--pipe", stdin=commands)
    assert cli(server, "DBSIZE") == "5000"


def test_redis_cli_reads_info_and_help(server):
    assert "redis_version:7." in cli(server, "INFO", "server")
    assert "role:master" in cli(server, "INFO", "replication")
    assert cli(server, "CONFIG", "GET", "databases").split() == ["databases", "16"]
    assert cli(server, "--no-raw", "COMMAND", "COUNT").startswith("(integer)")


@pytest.mark.parametrize("pipelining", [1, 16])
@pytest.mark.parametrize("position", [0, -1])
def test_redis_benchmark_ends_without_an_error(server, pipelining, position):
    if position == -1 and len(server.ports) == 1:
        position = 0
    tests = "ping,set,get,incr,mset"
    command = ["redis-benchmark", "-p", str(server.ports[position]), "-t", tests, "-c", "50", "-P", str(pipelining)]
    report = run(*command, "-n", str(2000 * pipelining), "-r", "1000", "-q").replace("\r", "\n")
    results = re.findall(r"^(\S+)[^:\n]*: ([0-9.]+) requests per second", report, re.MULTILINE)
    assert {name for name, _ in results} == {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"}, report
    assert not re.search(r"error|warning", report, re.IGNORECASE), report


def test_redis_benchmark_speaks_resp3(server):
    report = run("redis-benchmark", "-3", "-p", str(server.port), "-t", "set,get", "-c", "10", "-n", "1000", "-q")
    assert report.count("requests per second") == 2
    assert "rror" not in report
