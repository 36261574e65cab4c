"""A real Prometheus scrapes three nodes under load with the configuration in deploy/: it takes what they serve and the alert rules, and
everything that the dashboard asks is answered with data.
"""

import contextlib
import itertools
import json
import math
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml

from deployed import DEPLOY, alerts, dashboard, document, filled_in, panels
from servers import client, free_base_port, raw, wait_until

pytestmark = pytest.mark.redraft_only

SCRAPE_INTERVAL_S = 1
# As Grafana computes $__rate_interval: four scrapes, so that one that is late leaves enough for a rate.
RATE_INTERVAL = f"{4 * SCRAPE_INTERVAL_S}s"


class Prometheus:
    """Prometheus as deploy/prometheus configures it, but with these targets and in a hurry."""

    def __init__(self, directory, targets: list[str]):
        self.directory = directory
        self.targets = targets
        self.port = free_base_port(1)
        self.log = directory / "prometheus.log"
        self.process = None

    def configuration(self) -> dict:
        configuration = document("prometheus/prometheus.yml")
        configuration["global"] = {"scrape_interval": f"{SCRAPE_INTERVAL_S}s", "evaluation_interval": f"{SCRAPE_INTERVAL_S}s"}
        (job,) = configuration["scrape_configs"]
        job["static_configs"] = [{"targets": self.targets}]
        password = self.directory / "password"
        password.write_text("the nodes have none, and do not look at it")
        job["authorization"]["credentials_file"] = str(password)
        return configuration

    def start(self):
        shutil.copy(DEPLOY / "prometheus" / "alerts.yml", self.directory)
        file = self.directory / "prometheus.yml"
        file.write_text(yaml.safe_dump(self.configuration()))
        flags = [f"--config.file={file}", f"--storage.tsdb.path={self.directory / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(["prometheus", *flags], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._is_ready, f"Prometheus is ready (log: {self.log})")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10) as answer:
            return answer.status == 200

    def ask(self, path: str, **parameters):
        """The data of an answer of the API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as refusal:
            body = json.load(refusal)
        assert body["status"] == "success" and not body.get("warnings"), f"{parameters}: {body}"
        return body["data"]

    def numbers(self, expression: str) -> list[float]:
        """What an expression yields now, but for NaN, which is no data."""
        values = [float(series["value"][1]) for series in self.ask("query", query=expression)["result"]]
        return [value for value in values if not math.isnan(value)]

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@contextlib.contextmanager
def load(ports: list[int]):
    """Something of everything that the dashboard shows, on every node: reads that find and that do not, writes, expiry, errors."""
    stop = threading.Event()
    faults = []

    def one_round(db, number: int):
        with db.pipeline(transaction=False) as pipeline:
            for each in range(10):
                pipeline.set(f"watched:{each}", number)
                pipeline.get(f"watched:{each}")
            pipeline.set(f"brief:{number}", "v", px=50).get("nothing")
            pipeline.execute()
        # What shares a run with writes counts among these.
        db.get("watched:0")

    def work(port: int):
        try:
            for number in itertools.count():
                with client(port) as db:
                    one_round(db, number)
                assert raw(port, "nosuchcommand")[0].startswith("-ERR unknown command")
                if stop.wait(0.02):
                    return
        except Exception as error:
            faults.append(error)

    workers = [threading.Thread(target=work, args=(port,)) for port in ports]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert faults == []


@pytest.fixture(scope="module")
def prometheus(cluster, tmp_path_factory):
    """Prometheus, while the cluster is under load."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus)")
    cluster.wait_until_healthy()
    started = Prometheus(tmp_path_factory.mktemp("prometheus"), [row["admin"] for row in cluster.status()])
    with load(cluster.ports):
        try:
            started.start()
            yield started
        finally:
            started.close()


def test_every_panel_has_data_under_load(prometheus):
    waiting = {
        (panel["title"], position): filled_in(target["expr"], RATE_INTERVAL)
        for panel in panels()
        for position, target in enumerate(panel["targets"])
    }

    def nothing_waits() -> bool:
        for where in [where for where, expression in waiting.items() if prometheus.numbers(expression)]:
            del waiting[where]
        return not waiting

    try:
        wait_until(nothing_waits, "every panel has data", 30)
    except TimeoutError:
        assert waiting == {}, "these expressions have no data"


def test_the_choices_of_the_dashboard_are_the_cluster_and_its_nodes(prometheus):
    def choices(name: str) -> list[str]:
        (variable,) = [each for each in dashboard()["templating"]["list"] if each["name"] == name]
        series, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        return prometheus.ask(f"label/{label}/values", **{"match[]": filled_in(series, RATE_INTERVAL)})

    assert choices("job") == ["redraft"]
    assert choices("instance") == sorted(prometheus.targets)
    for annotation in dashboard()["annotations"]["list"]:
        prometheus.ask("query", query=filled_in(annotation["expr"], RATE_INTERVAL))


def test_every_alert_is_evaluated_and_none_is_raised_without_need(prometheus):
    def rules() -> list[dict]:
        return [rule for group in prometheus.ask("rules", type="alert")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule was evaluated")
    assert {rule["name"] for rule in rules()} == {rule["alert"] for rule in alerts()}
    assert [(rule["name"], rule["lastError"]) for rule in rules() if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []


def test_every_scrape_succeeds(prometheus):
    wait_until(lambda: len(prometheus.numbers("count_over_time(up[5m]) >= 5")) == 3, "every node was scraped five times")
    targets = prometheus.ask("targets", state="active")["activeTargets"]
    assert sorted(target["scrapeUrl"] for target in targets) == sorted(f"http://{target}/metrics" for target in prometheus.targets)
    assert [(target["scrapeUrl"], target["lastError"]) for target in targets if target["health"] != "up"] == []
    assert prometheus.numbers("min_over_time(up[5m])") == [1, 1, 1]
