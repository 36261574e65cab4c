"""The files in deploy/, without a container engine: that they have the form which their readers want, and that what they name exists:
flags and options of the binary, metrics of running nodes, sources of the image, sections of the docs.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tomllib
import urllib.request

import pytest
import yaml

import promql
from deployed import DEPLOY, alerts, dashboard, document, documents, expressions, filled_in, panels, read
from servers import CHECKOUT, binary, raw, wait_until
from shapes import COMPOSE, METADATA, NUMBER, SPECS, TEXT, misfits

pytestmark = pytest.mark.redraft_only

OPERATIONS = CHECKOUT / "docs" / "operations.md"
CLIENT_PORT, PEER_PORT, ADMIN_PORT = 6379, 16379, 8379
# Labels that Prometheus adds to what it scrapes.
TARGET_LABELS = {"job", "instance", "namespace", "pod"}
# Metrics that Prometheus makes itself.
OWN_METRICS = {"up"}
# A command in a page. What follows the user, the service or the secret `redraft` has other characters than a subcommand.
COMMAND = re.compile(r"(?:^|[\s/])redraft ((?!redraft\b)[a-z][a-z-]*(?:\s[^|]*)?)$")
# Labels whose values are all there from the start, so that a value that is not served is a slip of the pen.
CLOSED_LABELS = {"class", "kind", "direction", "outcome"}


# ---- Reading ----


def compose() -> dict:
    return document("compose.yaml")


def nodes() -> dict[str, dict]:
    """The services of compose.yaml that are nodes."""
    return {name: service for name, service in compose()["services"].items() if name.startswith("redraft")}


def manifest(kind: str, name: str) -> dict:
    """A document of the Kubernetes manifest."""
    found = [each for each in documents("kubernetes/redraft.yaml") if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"there is one {kind} {name}"
    return found[0]


def pod() -> dict:
    return manifest("StatefulSet", "redraft")["spec"]["template"]["spec"]


def container() -> dict:
    (only,) = pod()["containers"]
    return only


def instructions() -> list[list[tuple[str, str]]]:
    """The stages of the Dockerfile, each a list of instructions and their arguments."""
    text = re.sub(r"^\s*#.*\n", "", read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[tuple[str, str]]] = []
    for line in filter(str.strip, text.splitlines()):
        word, _, arguments = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, " ".join(arguments.split())))
    return stages


def arguments_of(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [arguments for each, arguments in stage if each == word]


def unit() -> dict[str, list[str]]:
    """The lines of the systemd unit: values by key, whatever the section."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", read("systemd/redraft.service"), flags=re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def size(text: str) -> int:
    """Bytes of a size as redraft writes it (512mb) or as Kubernetes does (2Gi)."""
    number, suffix = re.fullmatch(r"(\d+)([a-zA-Z]*)", text).groups()
    powers = {"": 0, "kb": 1, "mb": 2, "gb": 3, "ki": 1, "mi": 2, "gi": 3}
    return int(number) * 1024 ** powers[suffix.lower()]


def flag_values(arguments: list[str]) -> dict[str, str]:
    """The flags of a command line that are written as --name=value."""
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments if argument.startswith("--"))


# ---- Shapes ----


def test_shapes_find_slips_of_the_pen():
    def check(value, shape, expected):
        assert misfits(value, shape, "x") == expected

    check({"a": "1"}, {"a": TEXT}, [])
    check({"b": "1"}, {"a": TEXT}, ["x.b is not known"])
    check({"b": 1}, {"*": TEXT}, ["x.b is 1, no str"])
    check([1, True], [NUMBER], ["x[1] is True, no int"])
    check("a", [TEXT], ["x is no list"])
    check([], {"a": TEXT}, ["x is no mapping"])


# ---- What the binary knows ----


@functools.cache
def help_of(*words: str) -> str:
    done = subprocess.run([binary(), *words, "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"redraft {' '.join(words)} does not exist: {done.stderr.strip()}"
    return done.stdout


def flags_of(*words: str) -> set[str]:
    """The flags of a subcommand."""
    return set(re.findall(r"^\s+(?:-\w, )?--([a-z][a-z-]*)", help_of(*words), flags=re.MULTILINE))


def assert_command_exists(line: list[str], where: str):
    """`line` is what follows the program's name."""
    depth = 2 if line[0] == "cluster" else 1
    words = line[:depth]
    assert all(re.fullmatch("[a-z-]+", word) for word in words), f"{where}: {line}"
    given = {argument.removeprefix("--").split("=")[0] for argument in line[depth:] if argument.startswith("--")}
    assert given <= flags_of(*words), f"{where}: redraft {' '.join(words)} has no {given - flags_of(*words)}"


def assert_option_exists(variable: str, where: str):
    name = variable.removeprefix("REDRAFT_").lower().replace("_", "-")
    assert name in flags_of("server"), f"{where}: no option is set by {variable}"


def assert_all_but_the_secret_is_allowed(arguments: list[str], variables: dict[str, str], directory: pathlib.Path):
    """Without a peer-secret a node does not start, and it looks for that last: so everything else is as it should be."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("REDRAFT_")}
    line = [binary(), *arguments, f"--data-dir={directory}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, env=surroundings | variables)
    assert done.returncode == 1 and "set peer-secret" in done.stderr, f"{done.returncode}: {done.stderr}"


def code_of(page: pathlib.Path) -> list[str]:
    """The lines of a page's code: blocks, and what stands between backticks."""
    blocks = page.read_text().split("```")
    lines = [line for block in blocks[1::2] for line in block.splitlines()]
    return lines + [code for block in blocks[::2] for code in re.findall(r"`([^`\n]+)`", block)]


def test_commands_in_the_docs_exist():
    found = []
    for page in (OPERATIONS, DEPLOY / "README.md"):
        for line in code_of(page):
            command = COMMAND.search(re.split(r" #|;", line)[0].strip())
            if command:
                assert_command_exists(command[1].split(), f"{page.name}: {line}")
                found.append(command[1].split()[0])
    assert {"server", "cluster", "health", "status"} <= set(found)


def test_links_of_the_docs_lead_to_sections():
    def anchors(page: pathlib.Path) -> set[str]:
        headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    for page in (OPERATIONS, DEPLOY / "README.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name}: {target}"


# ---- The image ----


def test_the_image_is_built_from_what_is_there():
    builder, final = instructions()
    version = re.fullmatch(r"rust:(\d+)\.(\d+)\.\d+-slim-bookworm AS builder", arguments_of(builder, "FROM")[0])
    assert version, "the builder is pinned to a version of Rust and to a release of Debian"
    wanted = re.search(r'rust-version = "(\d+)\.(\d+)"', (CHECKOUT / "Cargo.toml").read_text())
    assert [int(part) for part in version.groups()] >= [int(part) for part in wanted.groups()]
    assert arguments_of(final, "FROM") == ["debian:12-slim"], "bookworm is Debian 12: both stages have the same C++ library"

    sources = [source for arguments in arguments_of(builder, "COPY") for source in arguments.split()[:-1]]
    patterns = read("Dockerfile.dockerignore").splitlines()
    for source in sources:
        assert (CHECKOUT / source).exists(), source
        assert f"!{source}" in patterns, f"{source} is not in the build context"
    members = re.search(r"members = \[(.*?)\]", (CHECKOUT / "Cargo.toml").read_text())[1]
    folders = {member.split("/")[0] for member in re.findall(r'"([^"]+)"', members)}
    assert folders | {"Cargo.toml", "Cargo.lock", ".ci"} == set(sources), "cargo wants every member of the workspace"

    build = " ".join(arguments_of(builder, "RUN"))
    assert "bash .ci/setup build" in build and "bash .ci/cargo-config" in build and "--locked --release" in build
    for script in re.findall(r"bash (\S+)", build):
        assert (CHECKOUT / script.split()[0]).exists(), script
    # What is taken from the builder is what it made.
    taken = re.fullmatch(r"--from=builder (\S+) /usr/local/bin/redraft", arguments_of(final, "COPY")[0])[1]
    assert build.endswith(taken)


def test_the_image_runs_one_node_as_nobody_special():
    _, final = instructions()
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", arguments_of(final, "USER")[0]), "numbers, and not root's"
    assert arguments_of(final, "STOPSIGNAL") == ["SIGTERM"]
    assert arguments_of(final, "EXPOSE") == [f"{CLIENT_PORT} {PEER_PORT} {ADMIN_PORT}"]
    assert arguments_of(final, "VOLUME") == ["/data"]
    assert json.loads(arguments_of(final, "ENTRYPOINT")[0]) == ["redraft"]
    assert_command_exists(json.loads(arguments_of(final, "CMD")[0]), "CMD")
    check = json.loads(arguments_of(final, "HEALTHCHECK")[0].split(" CMD ")[1])
    assert check[0] == "redraft"
    assert_command_exists(check[1:], "HEALTHCHECK")
    for setting in arguments_of(final, "ENV"):
        assert_option_exists(setting.split("=")[0], "ENV")


# ---- Compose ----


def test_compose_has_its_form():
    assert misfits(compose(), COMPOSE, "compose.yaml") == []
    mounted = {volume.split(":")[0] for service in compose()["services"].values() for volume in service["volumes"]}
    for source in mounted:
        assert (DEPLOY / source).exists() if source.startswith("./") else source in compose()["volumes"], source
    for name, service in compose()["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]) or service["image"] == "redraft:local", f"{name}: no version"
        assert set(service.get("secrets", [])) <= set(compose()["secrets"])
        assert "healthcheck" in service and service["restart"] == "unless-stopped", name
        # Nothing is open to the network by accident.
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_compose_takes_all_secrets_from_the_file_that_is_explained():
    explained = set(re.findall(r"^(\w+)=$", read(".env.example"), flags=re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)[:?}]", read("compose.yaml"))) == explained
    assert len(re.findall(r"\$\{\w+:\?", read("compose.yaml"))) == len(explained), "without a secret nothing starts"


def test_nodes_of_compose_have_the_same_arguments(tmp_path):
    own = {"REDRAFT_ADVERTISE": CLIENT_PORT, "REDRAFT_ADVERTISE_PEER": PEER_PORT, "REDRAFT_ADVERTISE_ADMIN": ADMIN_PORT}
    differing = {"hostname", "environment", "ports", "volumes"}
    alike = [{key: value for key, value in service.items() if key not in differing} for service in nodes().values()]
    assert len(alike) == 3 and all(service == alike[0] for service in alike)
    shared = [{key: value for key, value in service["environment"].items() if key not in own} for service in nodes().values()]
    assert all(variables == shared[0] for variables in shared)

    command = alike[0]["command"]
    assert_command_exists(command, "compose.yaml")
    values = flag_values(command)
    assert values["bootstrap-expect"] == "3"
    assert values["join"].split(",") == [f"{name}:{PEER_PORT}" for name in nodes()], "spelled as they are advertised"
    for name, service in nodes().items():
        assert service["hostname"] == name
        variables = service["environment"]
        assert {variable: variables[variable] for variable in own} == {variable: f"{name}:{port}" for variable, port in own.items()}
        for variable in variables:
            assert_option_exists(variable, name)
        assert service["healthcheck"]["test"][:2] == ["CMD", "redraft"]
        assert_command_exists(service["healthcheck"]["test"][2:], name)
    for key in ("ports", "volumes"):
        given = [each.rsplit(":", 1)[0] for service in nodes().values() for each in service[key]]
        assert len(given) == len(set(given)), f"{key} of two nodes are the same"
    assert_all_but_the_secret_is_allowed(command, {variable: f"redraft-1:{port}" for variable, port in own.items()}, tmp_path / "data")


# ---- Kubernetes ----


def test_manifests_have_their_form():
    for name in ("kubernetes/redraft.yaml", "kubernetes/servicemonitor.yaml"):
        for each in documents(name):
            where = f"{each['kind']} {each['metadata']['name']}"
            assert set(each) == {"apiVersion", "kind", "metadata", "spec"}, where
            assert misfits(each["metadata"], METADATA, where) == []
            assert misfits(each["spec"], SPECS[each["apiVersion"], each["kind"]], where) == []
    secret = document("kubernetes/secret.yaml")
    assert (secret["kind"], secret["metadata"]["name"], secret["type"]) == ("Secret", "redraft", "Opaque")
    assert set(secret["stringData"].values()) == {""}, "no secret is in the repository, and without one no node starts"
    assert "#" not in read("kubernetes/servicemonitor.yaml")


def test_services_and_the_budget_find_the_pods():
    stateful = manifest("StatefulSet", "redraft")["spec"]
    labels = stateful["template"]["metadata"]["labels"].items()
    headless, clients = manifest("Service", "redraft-nodes")["spec"], manifest("Service", "redraft")["spec"]
    budget = manifest("PodDisruptionBudget", "redraft")["spec"]
    selectors = [stateful["selector"]["matchLabels"], headless["selector"], clients["selector"], budget["selector"]["matchLabels"]]
    selectors += [each["labelSelector"]["matchLabels"] for each in pod()["topologySpreadConstraints"]]
    selectors += [
        each["labelSelector"]["matchLabels"]
        for each in pod()["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    ]
    for selector in selectors:
        assert selector.items() <= labels
    assert stateful["serviceName"] == "redraft-nodes"
    # Pods that are not ready must find each other, or none becomes ready.
    assert headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"] is True
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"redis": CLIENT_PORT, "peer": PEER_PORT, "admin": ADMIN_PORT}
    for service in (headless, clients):
        for port in service["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    assert budget["maxUnavailable"] == 1

    monitor = document("kubernetes/servicemonitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= manifest("Service", "redraft-nodes")["metadata"]["labels"].items()
    assert not monitor["selector"]["matchLabels"].items() <= manifest("Service", "redraft")["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert (endpoint["path"], endpoint["port"]) == ("/metrics", "admin")
    assert endpoint["authorization"]["credentials"]["key"] in document("kubernetes/secret.yaml")["stringData"]


def test_pods_have_the_same_arguments(tmp_path):
    stateful = manifest("StatefulSet", "redraft")["spec"]
    arguments = container()["args"]
    assert stateful["podManagementPolicy"] == "Parallel", "one after the other, none would become ready"
    assert_command_exists(arguments, "redraft.yaml")
    values = flag_values(arguments)
    expected = int(values["bootstrap-expect"])
    assert stateful["replicas"] >= expected
    # Stable names, spelled as each pod advertises its own.
    assert values["join"].split(",") == [f"redraft-{number}.redraft-nodes:{PEER_PORT}" for number in range(expected)]
    for name, port in (("advertise", CLIENT_PORT), ("advertise-peer", PEER_PORT), ("advertise-admin", ADMIN_PORT)):
        assert values[name] == f"$(POD_NAME).redraft-nodes:{port}"
    variables = {variable["name"]: variable for variable in container()["env"]}
    assert variables["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    for name, variable in variables.items():
        if name != "POD_NAME":
            assert_option_exists(name, "redraft.yaml")
        secret = variable.get("valueFrom", {}).get("secretKeyRef")
        assert not secret or secret["key"] in document("kubernetes/secret.yaml")["stringData"]
    assert {"REDRAFT_PEER_SECRET", "REDRAFT_REQUIREPASS"} <= set(variables)
    of_pod_0 = [argument.replace("$(POD_NAME)", "redraft-0") for argument in arguments]
    assert_all_but_the_secret_is_allowed(of_pod_0, {}, tmp_path / "data")

    budget = size(values["block-cache-bytes"]) + 3 * size(values["memtable-bytes"]) + (72 << 20)
    assert size(container()["resources"]["requests"]["memory"]) > budget
    assert size(container()["resources"]["limits"]["memory"]) > budget * 1.25


def test_pods_are_watched_and_confined():
    # A node that waits for the other founders, or has no majority, is not to be killed for that: its peer port listens meanwhile.
    assert "startupProbe" not in container()
    assert container()["livenessProbe"]["tcpSocket"] == {"port": "peer"}
    command = container()["readinessProbe"]["exec"]["command"]
    assert command[0] == "redraft"
    assert_command_exists(command[1:], "readinessProbe")
    confinement = pod()["securityContext"]
    _, final = instructions()
    user, group = (int(part) for part in arguments_of(final, "USER")[0].split(":"))
    assert (confinement["runAsUser"], confinement["runAsGroup"], confinement["fsGroup"]) == (user, group, group), "those of the image"
    assert confinement["runAsNonRoot"] is True and confinement["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["enableServiceLinks"] is False and pod()["terminationGracePeriodSeconds"] >= 30
    (claim,) = manifest("StatefulSet", "redraft")["spec"]["volumeClaimTemplates"]
    assert container()["volumeMounts"] == [{"name": claim["metadata"]["name"], "mountPath": "/data"}]
    assert {"name": "REDRAFT_DATA_DIR", "value": "/data"} in container()["env"]
    assert pod()["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["topologyKey"] == "kubernetes.io/hostname"


# ---- systemd ----


def test_the_unit_starts_a_node_and_knows_its_exit_codes():
    (start,) = unit()["ExecStart"]
    program, *arguments = start.split()
    assert program == "/usr/local/bin/redraft"
    assert_command_exists(arguments, "redraft.service")
    assert unit()["Restart"] == ["on-failure"]
    assert "3" in unit()["RestartPreventExitStatus"][0].split()
    assert "3 must not be started again" in " ".join(help_of("server").split())
    assert unit()["User"] == unit()["Group"] == ["redraft"]
    assert flag_values(arguments)["data-dir"] == f"/var/lib/{unit()['StateDirectory'][0]}", "all else is read-only"
    for setting in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables", "RestrictNamespaces"):
        assert unit()[setting] == ["yes"], setting
    assert unit()["ProtectSystem"] == ["strict"] and unit()["CapabilityBoundingSet"] == [""]


def test_the_options_of_the_unit_are_allowed(tmp_path):
    text = read("systemd/redraft.toml")
    for name in re.findall(r"^#?([a-z-]+) = ", text, flags=re.MULTILINE):
        assert name in flags_of("server"), name
    assert re.findall(r'^(peer-secret|requirepass) = "(.*)"$', text, flags=re.MULTILINE) == [("peer-secret", ""), ("requirepass", "")]
    assert_all_but_the_secret_is_allowed(["server", f"--config={DEPLOY / 'systemd' / 'redraft.toml'}"], {}, tmp_path / "data")


def test_nodes_of_the_unit_listen_where_others_come_in():
    options = tomllib.loads(read("systemd/redraft.toml"))
    ports = (("", CLIENT_PORT), ("peer", PEER_PORT), ("admin", ADMIN_PORT))
    for name, port in ports:
        # The machine's own name may be one of its loopback addresses.
        assert options["-".join(filter(None, (name, "listen")))] == f"0.0.0.0:{port}"
        assert options["-".join(filter(None, ("advertise", name)))] == f"node-1.example:{port}"
    assert options["advertise-peer"] in options["join"] and len(options["join"]) == options["bootstrap-expect"]


def test_memory_is_high_beyond_what_the_shipped_options_add_up_to():
    (rule,) = (rule for rule in alerts() if rule["alert"] == "RedraftMemoryHigh")
    limit = int(re.search(r"> (\d+) \* 1024 \^ 2", rule["expr"]).group(1)) << 20
    of_unit = tomllib.loads(read("systemd/redraft.toml"))
    for values in (of_unit, flag_values(container()["args"]), *(flag_values(service["command"]) for service in nodes().values())):
        assert size(values["block-cache-bytes"]) + 3 * size(values["memtable-bytes"]) + (72 << 20) < limit


def test_systemd_understands_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian's package systemd)")
    copy = tmp_path / "redraft.service"
    copy.write_text(read("systemd/redraft.service").replace("/usr/local/bin/redraft", binary()))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60)
    # It also tells what is wrong with other units of the machine.
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "redraft" in line]
    assert ours == [], "\n".join(ours)


# ---- Monitoring ----


@pytest.fixture(scope="module")
def served(cluster) -> dict[str, list[dict[str, str]]]:
    """What three nodes serve at /metrics, together: some of it only the leader has."""
    cluster.wait_until_healthy()
    for port in cluster.ports:
        # So that there is an error to be counted.
        assert raw(port, "nosuchcommand")[0].startswith("-ERR")

    wanted = {name for _, expression in expressions() for name in promql.metrics(expression)} - OWN_METRICS

    def look() -> dict[str, list[dict[str, str]]]:
        found: dict[str, list[dict[str, str]]] = {}
        for port in cluster.ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port + 1000}/metrics", timeout=10) as answer:
                for name, series in promql.samples(answer.read().decode()).items():
                    found.setdefault(name, []).extend(series)
        return found

    def everything():
        found = look()
        return found if all(found.get(name) for name in wanted) else None

    try:
        return wait_until(everything, "every metric has a series", 15)
    except TimeoutError:
        # The tests say what is missing. A family without series is none: what it counts has not happened yet.
        return look()


def test_expressions_are_taken_apart():
    def check(expression, metrics, labels=frozenset()):
        assert (promql.metrics(expression), promql.grouping_labels(expression)) == (metrics, set(labels)), expression

    check("a", {"a"})
    check("rate(a_total[5m]) / 2 > 1e3", {"a_total"})
    check('sum by (x, le) (rate(a_bucket{b="c (d)", e=~"f|g"}[$__rate_interval]))', {"a_bucket"}, {"x", "le"})
    check("max by (x) (a) == 0 and on (x) (max by (x) (b) == 1)", {"a", "b"}, {"x"})
    check("a / ignoring (k) group_left () sum(b)", {"a", "b"}, {"k"})
    check("a < 2 * 1024 ^ 3 or (b and predict_linear(c[1h], 4 * 3600) < 0)", {"a", "b", "c"})
    check("time() - a offset 5m", {"a"})
    assert promql.matchers('f(a{b="c", d=~"e|f"}[1m]) + g') == {("a", "b", "=", "c"), ("a", "d", "=~", "e|f")}
    assert promql.samples('# TYPE a counter\na_total{b="c",d="e f"} 1\n# TYPE n counter\n# TYPE h histogram\n') == {
        "a_total": [{"b": "c", "d": "e f"}],
        "n_total": [],
        "h_bucket": [],
        "h_sum": [],
        "h_count": [],
    }


def test_every_expression_names_metrics_that_are_served(served):
    missing = {(name, where) for where, expression in expressions() for name in promql.metrics(expression) - set(served) - OWN_METRICS}
    assert not missing, "\n".join(sorted(f"{name} is not served: {where}" for name, where in missing))


def test_every_expression_asks_for_labels_that_are_served(served):
    def served_with(name: str) -> set[str]:
        return {label for labels in served.get(name, []) for label in labels}

    wrong = []
    for where, expression in expressions():
        read_by_it = promql.metrics(expression)
        known = TARGET_LABELS.union(*(served_with(name) for name in read_by_it))
        wrong += [f"{where}: groups by {label}" for label in promql.grouping_labels(expression) - known]
        for name, label, operator, text in promql.matchers(expression):
            if label in TARGET_LABELS:
                continue
            if served.get(name) and label not in served_with(name):
                wrong.append(f"{where}: {name} has no label {label}")
            elif label in CLOSED_LABELS:
                values = {labels.get(label) for labels in served[name]}
                wanted = set(text.split("|")) if operator == "=~" else {text}
                wrong += [f"{where}: {name} has no {label} {value}" for value in wanted - values]
    assert not wrong, "\n".join(wrong)


def test_every_alert_says_what_it_means_and_where_to_read_on():
    sections = re.findall(r"^#### (Redraft\w+)$", OPERATIONS.read_text(), flags=re.MULTILINE)
    assert [rule["alert"] for rule in alerts()] == sections, "the sections are those of the alerts, in their order"
    for rule in alerts():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    tested = yaml.safe_load((CHECKOUT / "tests-py" / "alerts.test.yml").read_text())
    for rule in alerts():
        assert f'alertname="{rule["alert"]}"' in json.dumps(tested).replace('\\"', '"'), f"{rule['alert']} is raised by no test"
    for section in OPERATIONS.read_text().split("#### ")[1:]:
        assert section.count("**Means:**") == 1 and "**Look" in section and "**Do:**" in section.replace("**Look, do:**", "**Do:**"), section


def test_the_nodes_of_compose_are_scraped():
    configuration = document("prometheus/prometheus.yml")
    for name in configuration["rule_files"]:
        assert (DEPLOY / "prometheus" / name).exists()
    (job,) = configuration["scrape_configs"]
    assert job["job_name"].startswith("redraft"), "by which the rules know it"
    (targets,) = (each["targets"] for each in job["static_configs"])
    assert targets == [service["environment"]["REDRAFT_ADVERTISE_ADMIN"] for service in nodes().values()]
    (secret,) = compose()["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert compose()["secrets"][secret] == {"environment": "REDRAFT_REQUIREPASS"}


def test_the_dashboard_is_loaded_and_readable():
    board = dashboard()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance"]
    assert board["uid"] == "redraft" and variables["datasource"]["type"] == "datasource"
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == ["Cluster at a glance", "Throughput and latency", "Replication", "Storage", "Process"]
    identifiers = [panel["id"] for panel in board["panels"]]
    assert len(identifiers) == len(set(identifiers))
    covered = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & covered, f"{panel['title']} covers another panel"
        covered |= cells
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert panel["targets"], panel["title"]
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert 'job="$job"' in target["expr"], f"{panel['title']} mixes clusters"

    grafana = compose()["services"]["grafana"]
    (provider,) = document("grafana/provisioning/dashboards/redraft.yaml")["providers"]
    path = provider["options"]["path"]
    assert f"./grafana/dashboards:{path}:ro" in grafana["volumes"]
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{path}/redraft.json"
    (source,) = document("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)


# ---- What Prometheus itself says ----


def promtool(*arguments) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_configuration(tmp_path):
    # It looks whether the file with the password is there.
    (tmp_path / "secret").write_text("a password")
    text = re.sub(r"(credentials_file:) .*", r"\1 secret", read("prometheus/prometheus.yml"))
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_promtool_takes_the_rules():
    promtool("check", "rules", DEPLOY / "prometheus" / "alerts.yml")


def test_alerts_are_raised_when_they_should_be():
    promtool("test", "rules", CHECKOUT / "tests-py" / "alerts.test.yml")


def test_promtool_takes_the_expressions_of_the_dashboard(tmp_path):
    rules = []
    for position, (where, expression) in enumerate(each for each in expressions() if not each[0].startswith("alert ")):
        expression = filled_in(expression, "1m")
        assert "$" not in expression, where
        rules.append({"record": f"panel:{position}", "expr": expression, "labels": {"panel": where}})
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", tmp_path / "panels.yml")
