"""What a PromQL expression names: its metrics, and the labels that it asks of each.

No parser: what is neither a metric nor a label is taken away. Enough for expressions without subqueries that name a metric by a label.
"""

import re

_STRING = r'"(?:[^"\\]|\\.)*"'
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "ignoring", "on", "by", "without", "group_left", "group_right", "atan2"}
# Words that are followed by a list of labels in parentheses.
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", re.IGNORECASE)
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")


def metrics(expression: str) -> set[str]:
    """The metrics that it reads."""
    text = re.sub(_STRING, '""', expression)
    text = _GROUPING.sub(" ", text)
    text = re.sub(r"\{[^}]*\}", " ", text)
    text = re.sub(r"\[[^\]]*\]", " ", text)
    # A name before a parenthesis is a function or an aggregation, a letter behind a digit a unit or an exponent.
    names = re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\()\b(?![\w:])", text)
    return {name for name in names if name.lower() not in _WORDS}


def matchers(expression: str) -> set[tuple[str, str, str, str]]:
    """What it asks of labels: metric, label, operator, and the text it is compared with."""
    found = set()
    for metric, inside in _SELECTOR.findall(expression):
        found |= {(metric, label, operator, value[1:-1]) for label, operator, value in _MATCHER.findall(inside)}
    return found


def grouping_labels(expression: str) -> set[str]:
    """The labels by which it groups or joins."""
    lists = _GROUPING.findall(re.sub(_STRING, '""', expression))
    return {label.strip() for labels in lists for label in labels.split(",") if label.strip()}


def samples(text: str) -> dict[str, list[dict[str, str]]]:
    """The series of Prometheus's text format: for each name the labels of its series. A family without any has an empty list."""
    found: dict[str, list[dict[str, str]]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            for suffix in {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(kind, ("",)):
                found.setdefault(name + suffix, [])
        elif line and not line.startswith("#"):
            match = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s", line)
            if match is None:
                raise ValueError(f"no sample: {line!r}")
            labels = {label: value[1:-1] for label, value in re.findall(rf"(\w+)=({_STRING})", match[2] or "")}
            found.setdefault(match[1], []).append(labels)
    return found
