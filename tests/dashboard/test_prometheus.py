"""Every query of the dashboard, asked of a real Prometheus that watches the real flow at work."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.model import DASHBOARD, PANELS, filled_in, targets
from tests.dashboard.watched import JOB, Prometheus, watched
from tests.support.kafka import SecureBroker

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None and os.environ.get("CI") != "true",
    reason="needs Prometheus (Debian: apt-get install prometheus)",
)
TARGETS = {name: target["expr"] for name, target in targets()}
DEADLINE_S = 120.0


def wait_for(prometheus: Prometheus, expression: str) -> list[float]:
    """Return the numbers that it gives, once there are some; NaN, as of 0 / 0, is none."""
    give_up_at = time.monotonic() + DEADLINE_S
    while True:
        numbers = [float(sample["value"][1]) for sample in prometheus.query(expression)]
        if any(number == number for number in numbers):  # noqa: PLR0124  (not NaN)
            return numbers
        assert time.monotonic() < give_up_at, f"no data: {expression}"
        time.sleep(0.3)


def test_a_flow_at_work(
    secure_kafka: SecureBroker, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """One test of many parts: what takes the time is to have a flow at work, and watched."""
    with watched(secure_kafka, tmp_path) as (prometheus, flow):
        for name, expression in TARGETS.items():
            with subtests.test(f"every query of the dashboard has data: {name}"):
                assert wait_for(prometheus, filled_in(expression, job=JOB))
        for name, expression in TARGETS.items():
            with subtests.test(f"no query has data of another job: {name}"):
                assert prometheus.query(filled_in(expression, job="another")) == []
        for check in (
            a_stat_is_one_number,
            every_legend_names_labels_that_there_are,
            the_annotations_can_be_asked,
            each_alert_reads_metrics_that_there_are,
            only_what_is_so_raises_an_alert,
        ):
            with subtests.test(check.__name__):
                check(prometheus)
        with subtests.test("the status page shows it at work"):
            assert "Lanes (4 of 4 open)" in flow.get("/")[1]
            assert len(re.findall(r"<td>[\d.]+ s ago</td></tr>", flow.get("/")[1])) == 4 + 1
        with subtests.test("the variables find the process"):
            found = dict(variables(prometheus))
            assert found == {"job": {JOB}, "instance": {f"127.0.0.1:{flow.metrics_port}"}}


def a_stat_is_one_number(prometheus: Prometheus) -> None:
    for panel in PANELS:
        if panel["type"] == "stat":
            [target] = panel["targets"]
            assert len(wait_for(prometheus, filled_in(target["expr"]))) == 1, panel["title"]


def every_legend_names_labels_that_there_are(prometheus: Prometheus) -> None:
    for _, target in targets():
        wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        expression = filled_in(target["expr"])
        wait_for(prometheus, expression)
        for sample in prometheus.query(expression):
            assert wanted <= set(sample["metric"]), target["legendFormat"]


def variables(prometheus: Prometheus) -> Iterator[tuple[str, set[str]]]:
    """Yield each variable of the dashboard, with the values that there are to choose from."""
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            [(metric, label)] = re.findall(r"label_values\((.*), (\w+)\)", variable["query"])
            series = prometheus.query(filled_in(metric))
            yield label, {sample["metric"][label] for sample in series}


def the_annotations_can_be_asked(prometheus: Prometheus) -> None:
    for annotation in DASHBOARD["annotations"]["list"]:
        prometheus.query(filled_in(annotation["expr"]))


def each_alert_reads_metrics_that_there_are(prometheus: Prometheus) -> None:
    """Check that no alert is on a name that nothing exposes: it would never fire."""
    groups = prometheus.get("rules")["groups"]
    named = {
        name
        for group in groups
        for rule in group["rules"]
        for name in re.findall(r"(?<![:\w])(?:payments?|kafka|process)_\w+", rule["query"])
    }
    assert len(named) > 15
    for name in sorted(named):
        wait_for(prometheus, name)


def only_what_is_so_raises_an_alert(prometheus: Prometheus) -> None:
    """Check the alerts: the broker's certificate is for two days; the load has conflicts.

    And what becomes of the disk of this machine is not for this test to judge. On a busy machine
    the flow may stand still for a moment, between two scrapes: such an alert is withdrawn at the
    next one, before its `for` has passed. An alert that is wrong is not.
    """
    wait_for(prometheus, "payments_audited_total > 500")
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    certificate = {"PaymentsCertificateExpiring", "PaymentsCertificateExpiresSoon"}
    others = {"PaymentsConflicts", "PaymentsConflictSpike"}
    disk = {"PaymentsRecoveryVolumeFilling", "PaymentsRecoveryVolumeFull"}
    give_up_at = time.monotonic() + DEADLINE_S
    while not certificate <= (raised := _raised(prometheus)) <= certificate | others | disk:
        assert time.monotonic() < give_up_at, raised
        time.sleep(0.3)


def _raised(prometheus: Prometheus) -> set[str]:
    """Return the names of the alerts that are pending or fire."""
    return {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}
