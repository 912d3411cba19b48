"""The dashboard by the rules of Grafana's dashboard-linter, and some of our own.

The linter itself cannot be had everywhere; each of its rules that concerns a Prometheus dashboard
is a test of the same name here.
"""

import json
import re
from typing import Any

import pytest

from grafana import dashboard
from tests.dashboard.model import DASHBOARD, PANELS, PATH, targets

VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
TARGETS = dict(targets())
UNITS = {
    *("none", "short", "percentunit", "locale", "bytes", "s", "ops", "cps"),
}
"""Of the units that Grafana has, those that we use."""
EXACT = "Audit parity"
"""The panel that compares counters themselves: equal at one moment, while rates are estimates."""

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
each_target = pytest.mark.parametrize("name", TARGETS)


def selectors(expression: str) -> list[tuple[str, str]]:
    """Return metric and matchers of every selector."""
    return re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expression)


def ranges(expression: str) -> list[tuple[str, str]]:
    """Return every range vector: the function it is given to, and its range."""
    return re.findall(r"(\w+)\([\w:]+\{[^}]*\}\[([^]]+)\]\)", expression)


def test_the_file_is_what_its_source_makes_of_it() -> None:
    """Run `make monitoring` if this fails."""
    assert PATH.read_text() == json.dumps(dashboard.dashboard(), indent=2) + "\n"


def test_template_datasource_rule() -> None:
    source = VARIABLES["datasource"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert source["label"] == "Data source"


@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance_rule(name: str) -> None:
    variable = VARIABLES[name]
    assert variable["type"] == "query"
    assert variable["label"] == name.title()
    assert variable["datasource"]["uid"] == "${datasource}"
    assert variable["multi"] is True
    assert variable["allValue"] == ".+"


def test_template_label_promql_rule() -> None:
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            assert re.fullmatch(r"label_values\(\w+(\{.*\})?, \w+\)", variable["query"])


def test_template_on_time_change_reload_rule() -> None:
    queries = [variable for variable in VARIABLES.values() if variable["type"] == "query"]
    assert [variable["refresh"] for variable in queries] == [2, 2]


@each_panel
def test_panel_datasource_rule(panel: dict[str, Any]) -> None:
    uids = {panel["datasource"]["uid"], *(each["datasource"]["uid"] for each in panel["targets"])}
    assert uids == {"${datasource}"}


@each_panel
def test_panel_title_description_rule(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert re.fullmatch(r"[A-Za-z].*\.", panel["description"]), "a sentence"


@each_panel
def test_panel_units_rule(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@each_panel
def test_panel_no_targets_rule(panel: dict[str, Any]) -> None:
    assert panel["targets"]


@each_target
def test_target_rate_interval_rule(name: str) -> None:
    for function, window in ranges(TARGETS[name]["expr"]):
        if function in {"rate", "irate"}:
            assert window == "$__rate_interval"


@each_target
def test_target_job_and_instance_rule(name: str) -> None:
    found = selectors(TARGETS[name]["expr"])
    assert found
    for metric, matchers in found:
        assert matchers.startswith('job=~"$job", instance=~"$instance"'), metric


@each_target
def test_target_counter_agg_rule(name: str) -> None:
    expression = TARGETS[name]["expr"]
    counters = [metric for metric, _ in selectors(expression) if metric.endswith("_total")]
    added = re.findall(r"(?:rate|increase)\((\w+_total)\{", expression)
    assert added == ([] if EXACT in name else counters)


def test_uneditable_dashboard() -> None:
    assert DASHBOARD["editable"] is False


# ---- our own ----


def test_it_can_be_linked_to() -> None:
    assert DASHBOARD["uid"] == "payments-service"
    assert "id" not in DASHBOARD, "that is each Grafana's own"


def test_panels_fill_their_rows_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [each["id"] for each in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height, "there are no holes"


def test_thresholds_rise_from_no_value() -> None:
    for panel in PANELS:
        values = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert values[0] is None, panel["title"]
        assert values[1:] == sorted(values[1:]), panel["title"]
