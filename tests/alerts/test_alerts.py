"""Each alert, tried with `promtool test rules`: it has the right text, and is silent otherwise."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataflow.cli import COMMANDS
from grafana import rules
from schemas.outcomes import INVALID_RECORD
from tests import ROOT
from tests.alerts.alert_cases import CASES, Case

PLAIN = ROOT / "grafana/prometheus/rules.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES: dict[str, Any] = yaml.safe_load(PLAIN.read_text())
ALERTS = re.findall(r"- alert: (\w+)", PLAIN.read_text())

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("CI") != "true",
    reason="needs promtool (Debian: apt-get install prometheus)",
)


def runbook(alert: str) -> str:
    """Return the runbook that the rules name for an alert."""
    entry = PLAIN.read_text().partition(f"- alert: {alert}\n")[2]
    found = re.search(r"runbook_url: (\S+)", entry)
    assert found is not None
    return found[1]


def expected(case: Case) -> list[dict[str, dict[str, str]]]:
    url = {"runbook_url": runbook(case.alert)}
    fires = ({case.summary: case.labels} if case.summary else {}) | case.also
    return [
        {"exp_labels": labels, "exp_annotations": {"summary": summary} | url}
        for summary, labels in fires.items()
    ]


@needs_promtool
def test_an_alert_fires_for_its_reason_only(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """One process tries all cases: its start takes as long as many of them."""
    files = [written(case, tmp_path / f"{number}.json") for number, case in enumerate(CASES)]
    run = subprocess.run(
        ["promtool", "test", "rules", *map(str, files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    parts = [part.partition("\n") for part in run.stdout.split("Unit Testing:  ")[1:]]
    verdicts = {name.strip(): verdict.strip() for name, _, verdict in parts}
    for case, file in zip(CASES, files, strict=True):
        with subtests.test(f"{case.alert}: {case.name}"):
            assert verdicts[str(file)] == "SUCCESS"
    assert run.returncode == 0, run.stdout


def written(case: Case, path: Path) -> Path:
    """Write a case as promtool reads it: with the rules of its alert, and none of others."""
    rules_of = path.with_name(f"{case.alert}.yaml")
    if not rules_of.exists():
        rules_of.write_text(json.dumps(only(case.alert)))
    test = {
        "rule_files": [str(rules_of)],
        "evaluation_interval": f"{case.step_min}m",
        "tests": [
            {
                "interval": f"{case.step_min}m",
                "input_series": case.input,
                "alert_rule_test": [
                    {
                        "eval_time": case.at,
                        "alertname": case.alert,
                        "exp_alerts": expected(case),
                    }
                ],
            }
        ],
    }
    path.write_text(json.dumps(test))
    return path


def only(alert: str) -> dict[str, Any]:
    """Return the rules of one alert, and those that record what they ask for."""
    every = [rule for group in RULES["groups"] for rule in group["rules"]]
    kept = [rule for rule in every if rule.get("alert") == alert]
    for rule in kept:  # which grows
        asked = (each for each in every if each.get("record", "none") in rule["expr"])
        kept += (each for each in asked if each not in kept)
    groups = [
        group | {"rules": [rule for rule in group["rules"] if rule in kept]}
        for group in RULES["groups"]
    ]
    return {"groups": [group for group in groups if group["rules"]]}


def test_each_alert_is_seen_to_fire_as_often_as_it_has_rules_and_to_be_silent() -> None:
    firing = Counter(case.alert for case in CASES if case.summary)
    assert not Counter(ALERTS) - firing
    assert set(ALERTS) == {case.alert for case in CASES if not case.summary}


@needs_promtool
def test_promtool_finds_nothing_to_object_to() -> None:
    lint = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(PLAIN)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_the_plain_rules_are_those_of_the_prometheus_rule() -> None:
    """Run `make monitoring` if this fails."""
    assert PLAIN.read_text() == rules.plain()


@pytest.mark.parametrize("alert", sorted(set(ALERTS)))
def test_every_alert_has_a_runbook(alert: str) -> None:
    text = (ROOT / runbook(alert)).read_text()
    assert f"`{alert}`" in text
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (RUNBOOKS / target).exists(), target
    for heading in ("## What it means", "## Look", "## Do"):
        assert heading in text


def test_every_failure_of_a_valid_request_counts_as_a_decline() -> None:
    lists = re.findall(r'code!~"([^"]*)"', PLAIN.read_text())
    assert lists
    for each in lists:
        assert set(each.split("|")) == INVALID_RECORD


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_names_metrics_that_there_are(path: Path) -> None:
    documented = (ROOT / "docs" / "monitoring.md").read_text()
    text = re.sub(r"payments?_\w+\.\w+", "", path.read_text())
    for name in re.findall(r"\b(?:payments?|kafka)_\w+", text):
        assert f"`{re.sub('_(bucket|sum|count)$', '', name)}`" in documented, name


GATEWAY_RUNBOOKS = sorted(
    {
        runbook(alert)
        for alert in ALERTS
        if alert.startswith(("PaymentsGateway", "PaymentsPending", "PaymentsUnresolved"))
        and alert != "PaymentsGatewaySimulated"
    }
)


@pytest.mark.parametrize("path", GATEWAY_RUNBOOKS)
def test_a_runbook_of_the_gateway_begins_with_three_commands(path: str) -> None:
    look = (ROOT / path).read_text().partition("## Look\n\n")[2]
    block = re.match(r"```sh\n(.*?)```", look, re.DOTALL)
    assert block is not None
    commands = [line for line in block[1].splitlines() if not line.startswith("  ")]
    assert len(commands) == 3
    for command in re.findall(r"python -m dataflow (\S+)", block[1]):
        assert command in COMMANDS


def test_every_runbook_belongs_to_an_alert() -> None:
    used = {Path(runbook(alert)).name for alert in ALERTS}
    assert {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"} == used
