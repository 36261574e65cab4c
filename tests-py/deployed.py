"""What stands in deploy/, for those who test it: its files, and the expressions of the alerts and of the dashboard."""

import json

import yaml

from servers import CHECKOUT

DEPLOY = CHECKOUT / "deploy"


def read(name: str) -> str:
    return (DEPLOY / name).read_text()


def documents(name: str) -> list:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(read(name)))


def document(name: str):
    found = documents(name)
    assert len(found) == 1, f"{name} has {len(found)} documents"
    return found[0]


def dashboard() -> dict:
    return json.loads(read("grafana/dashboards/redraft.json"))


def panels() -> list[dict]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def alerts() -> list[dict]:
    return [rule for group in document("prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def expressions() -> list[tuple[str, str]]:
    """All expressions, each with where it stands."""
    found = [(f"alert {rule['alert']}", rule["expr"]) for rule in alerts()]
    found += [(f"panel {panel['title']}", target["expr"]) for panel in panels() for target in panel["targets"]]
    found += [(f"annotation {each['name']}", each["expr"]) for each in dashboard()["annotations"]["list"]]
    return found


def filled_in(expression: str, rate_interval: str) -> str:
    """An expression of the dashboard as Grafana sends it when all nodes of the job `redraft` are chosen."""
    for variable, value in {"$__rate_interval": rate_interval, "$job": "redraft", "$instance": ".*"}.items():
        expression = expression.replace(variable, value)
    return expression
