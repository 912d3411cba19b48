"""The dashboard as it is committed, and its queries as Grafana would send them."""

import json
from collections.abc import Iterator
from typing import Any

from tests import ROOT

PATH = ROOT / "grafana" / "dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(PATH.read_text())
PANELS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each query, with a name that says where it is."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['id']} {panel['title']} {target['refId']}", target


def filled_in(expression: str, window: str = "10s", job: str = ".+", instance: str = ".+") -> str:
    """Return the expression with values for its variables, as when everything is chosen."""
    values = {
        "$__rate_interval": window,
        "$__range": window,
        "$job": job,
        "$instance": instance,
    }
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, "an unknown variable"
    return expression
