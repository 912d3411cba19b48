"""The report of what was measured; and a check that the load is what the report says it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.parsing import parse
from schemas.requests import PaymentRequest
from tests import ROOT
from tests.bench import figures, load, report, rounds


def contender(speeds: list[float], cpu_us: float, p99_ms: list[float | None]) -> dict[str, Any]:
    return {
        "title": "some",
        "settings": "none",
        "rates": [5_000],
        "runs": [
            {
                "latency": {"5000": None if p99 is None else {"p99_ms": p99}},
                "idle_percent": 1.0,
                "burst": {"payments_per_s": speed, "cpu_us": cpu_us, "peak_mb": 1.0},
            }
            for speed, p99 in zip(speeds, p99_ms, strict=True)
        ],
    }


@pytest.fixture
def data() -> dict[str, Any]:
    ours = contender([50.0, 60.0, 70.0], 12.0, [100.0, 300.0, 200.0])
    theirs = contender([10.0, 12.0, 11.0], 10.0, [None, None, 1.0])
    bursts = [{"payments_per_s": 60.0, "cpu_us": 12.0}]
    return {
        "machine": {"cores": 2},
        "contenders": {"product": ours, "low-latency": ours, "quix": theirs, "streams": theirs},
        "remembered": {
            "0": {"bursts": bursts, "resident_mb": 100.0, "resume_s": 3.0},
            "1048576": {"bursts": bursts, "resident_mb": 150.0, "resume_s": 16.0},
        },
    }


def target(data: dict[str, Any], words: str) -> figures.Target:
    (found,) = (each for each in figures.targets(data) if words in each.text)
    return found


@pytest.mark.parametrize(
    ("words", "measured", "met"),
    [
        ("Quix Streams", "5.45 times (60 to 11)", True),
        ("that of Kafka Streams", "1.2 times (12 to 10)", False),
        ("bare loop", "not measured", None),
        ("bytes of memory", "50 bytes", True),
        ("resumes", "16 s", False),
        ("p99 at most 200 ms", "200 ms", True),
        ("p50 at most 80 ms", "not measured", None),
        ("remembered ids within 10 %", "1 times (12 to 12)", True),
    ],
)
def test_targets(data: dict[str, Any], words: str, measured: str, met: bool | None) -> None:  # noqa: FBT001
    found = target(data, words)
    assert (found.measured.replace(".00", "").replace("1.20", "1.2"), found.met) == (measured, met)


def test_a_contender_that_falls_behind_in_most_rounds_has_no_latency(data: dict[str, Any]) -> None:
    assert figures.latency(data, "quix", 5_000, "p99_ms") is None
    assert figures.latency(data, "product", 5_000, "p99_ms") == 200.0


def test_two_processes_must_be_faster_only_where_there_are_cores_for_them() -> None:
    one, two = contender([50.0], 12.0, [1.0]), contender([60.0], 13.0, [1.0])
    data = {"contenders": {"product": one, "two": two}, "machine": {"cores": 2}}
    assert target(data, "two processes").met
    data["machine"] = {"cores": 8}
    assert target(data, "two processes").met is False


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.123, "0.123"), (12.345, "12.3"), (123.4, "123"), (1234.5, "1,234")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert figures.short(value) == shown


def test_quantiles() -> None:
    ordered = [float(n) for n in range(1, 1001)]
    assert [rounds.quantile(ordered, q) for q in (0.5, 0.99, 0.999)] == [500, 990, 999]
    assert rounds.quantile([7.0], 0.999) == 7


def test_the_requests_are_those_of_the_report() -> None:
    sent = list(load.requests("p0001-", 10_000))
    parsed = [parse(value, 10_000) for _, value in sent]
    valid = [each for each in parsed if isinstance(each, PaymentRequest)]
    ids = [each.payment_id for each in valid]
    assert len(parsed) - len(valid) == 100
    assert len(ids) - len(set(ids)) == 500
    assert len({key for key, _ in sent}) == load.distinct(10_000)
    assert len(set(ids)) == load.charged(10_000)
    assert [load.charged(count) for count in (1, 50, 51)] == [1, 48, 48]
    assert all(key.decode() == each.payment_id for (key, _), each in zip(sent, parsed, strict=True))
    assert sum(len(value) for _, value in sent) // 10_000 in range(190, 211)
    assert load.number(sent[42][0]) == 42


def test_charging_is_reported_beside_the_ideal_rate() -> None:
    rate = {"payments_per_s": 2304.0, "ideal_per_s": 2560.0, "cpu_us": 210.0}
    data = {
        "machine": {"cores": 2, "cpu": "any", "memory_gb": 24},
        "charging": {
            "usual": rate,
            "usual_latency": {"p50_ms": 140.0, "p99_ms": 600.0},
            "hanging": rate,
            "hanging_latency": None,
            "parked": {
                "parked": 94_000.0,
                "parked_per_s": 400.0,
                "before_mb": 90.0,
                "resident_mb": 250.0,
                "ready_s": 2.0,
                "ready_mb": 240.0,
            },
            "workers": {"first_s": 2.0, "payments_per_s": 104.0, "ideal_per_s": 32 / 0.3},
        },
    }
    table = report.charging(data)
    assert "| 2,304 payments/s, 90% of the ideal rate |" in table
    assert "| p50 140 ms, p99 600 ms |" in table
    assert "those that were not parked | falls behind |" in table
    assert "| 94,000 payments are parked | at 400/s; memory goes from 90 to 250 MB |" in table


def many_ids(title: str, ids: int, cpu_us: float, start_s: float) -> dict[str, Any]:
    return {
        "title": title,
        "ids": ids,
        "bursts": [{"payments_per_s": 1_000.0, "cpu_us": cpu_us}],
        "anonymous_mb": 900.0,
        "disk_mb": ids * 50 / 2**20,
        "with_files_s": start_s,
        "without_files_s": 2 * start_s,
    }


def test_the_most_ids_are_compared_with_none_and_rocksdb_with_as_many() -> None:
    measured = [
        many_ids("ours", 0, 10.0, 2.0),
        many_ids("rocksdb", 10_000_000, 20.0, 44.0),
        many_ids("ours", 10_000_000, 10.0, 3.0),
        many_ids("ours", 100_000_000, 11.0, 7.5),
    ]
    found = [(each.measured, each.met) for each in figures.of_many_ids(measured)]
    assert found == [
        ("1.10 times (11 to 10)", True),
        ("900 MB", True),
        ("50 bytes", False),
        ("5.5 s more", False),
        ("6 s", True),
        ("1.00 times (1,000 to 1,000)", True),
    ]
    tables = report.many_ids(
        {"machine": {"cores": 2, "cpu": "x", "memory_gb": 1}, "many_ids": measured}
    )
    assert "| rocksdb, 10,000,000 ids | 1,000 | 20 | 900 | 477 | 44 | 88 |" in tables
    assert "| disk: at most 45 bytes an id | 50 bytes | **not met** |" in tables


def test_a_block_is_replaced_and_the_rest_is_kept(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("a\n<!-- b -->\nold\n<!-- /b -->\nc\n")
    report.write(document, "b", r"new \1")
    assert document.read_text() == "a\n<!-- b -->\nnew \\1\n<!-- /b -->\nc\n"
    with pytest.raises(ValueError, match="has no"):
        report.write(document, "z", "")


def test_a_block_within_a_line_stays_in_it(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("a <!-- b -->old<!-- /b --> c\n")
    report.write(document, "b", "new")
    assert document.read_text() == "a <!-- b -->new<!-- /b --> c\n"


def test_the_documents_have_the_blocks() -> None:
    """And the README the figures of the run that `docs/performance.md` is of."""
    document = (ROOT / "docs" / "performance.md").read_text()
    for block in ("bench", "charging", "many_ids"):
        assert f"<!-- {block} -->" in document
    data = json.loads((ROOT / "docs" / "performance.json").read_text())
    measured = f"<!-- measured -->{report.headline(data)}<!-- /measured -->"
    assert measured in (ROOT / "README.md").read_text()


def test_lock_files_name_no_host() -> None:
    """They are the same wherever they are installed from."""
    here = Path(__file__).parent
    packages = json.loads((here / "baselines" / "kafkajs" / "package-lock.json").read_text())
    assert not [each for each in packages["packages"].values() if "resolved" in each]
    assert "://" not in (here / "requirements.txt").read_text()
