"""docs/monitoring.md lists the metrics there are, and its queries are right."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dataflow.config.settings import Settings
from dataflow.core.charging import ChargingFigures
from dataflow.dedupe.tiered import Figures
from dataflow.gateways.call_counts import CallCounts
from dataflow.observability.certificates import CertificateMetrics
from dataflow.observability.engine_metrics import EngineMetrics
from dataflow.observability.gateway_metrics import GatewayMetrics
from dataflow.observability.id_metrics import IdMetrics
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.metrics import Metrics
from dataflow.observability.rotation_metrics import RotationMetrics
from dataflow.observability.status import About, Status
from dataflow.observability.store_metrics import StoreMetrics
from tests import ROOT
from tests.support.required import REQUIRED

TEXT = (ROOT / "docs" / "monitoring.md").read_text()
TABLE = TEXT.partition("| metric | labels | is |")[2].partition("\n\n")[0]
ROWS = [row.split(" | ") for row in TABLE.splitlines()[2:]]


def documented() -> dict[str, set[str]]:
    """Return the labels of each metric."""
    return {
        name: set(re.findall(r"`(\w+)`", labels))
        for names, labels, *_ in ROWS
        for name in re.findall(r"`(\w+)`", names)
    }


@pytest.fixture
def exposed(tmp_path: Path) -> dict[str, set[str]]:
    """Return the same, of a process that has everything to expose."""
    status = Status(About("1.2.3"), LivenessLimits(60))
    status.partitions.at(0, 1, 2)
    status.record_commit(0)
    status.epoch_closed()
    metrics = Metrics(
        status, input_topic="requested", output_topics=["processed", "audit"], log_topic="log"
    )
    (tmp_path / "part-0.sqlite3").touch()
    metrics.registry.register(StoreMetrics(tmp_path))
    metrics.registry.register(IdMetrics(lambda: Figures.of([])))
    figures = ChargingFigures(rate_limit=1.0, durations=CallCounts().durations)
    metrics.registry.register(GatewayMetrics(lambda: figures))
    metrics.registry.register(RotationMetrics(list))
    certificates = CertificateMetrics(Settings.from_env(REQUIRED))
    certificates._kafka["ca"] = certificates._gateway["gateway-ca"] = 1.0
    metrics.registry.register(certificates)
    metrics.registry.register(EngineMetrics(1, timeout_s=0.1))
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        histogram = family.type == "histogram"
        for sample in family.samples:
            found.setdefault(family.name if histogram else sample.name, set()).update(sample.labels)
    return {name: found[name] for name in found if name.startswith(("payment", "kafka"))}


def test_it_has_every_metric_with_its_labels_and_no_others(exposed: dict[str, set[str]]) -> None:
    assert documented() == exposed


@pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("CI") != "true",
    reason="needs promtool (Debian: apt-get install prometheus)",
)
def test_every_query_parses_and_uses_existing_metrics(
    tmp_path: Path, exposed: dict[str, set[str]]
) -> None:
    block = TEXT.partition("```promql\n")[2].partition("```")[0]
    queries = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(queries) > 5
    rules = "".join(f"    - {{record: 'q{n}', expr: '{q}'}}\n" for n, q in enumerate(queries))
    (tmp_path / "rules.yaml").write_text(f"groups:\n  - name: queries\n    rules:\n{rules}")
    check = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr
    for name in re.findall(r"\b(?:payments?|kafka)_\w+", block):
        assert re.sub("_(bucket|sum|count)$", "", name) in exposed, name


def test_every_document_it_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
