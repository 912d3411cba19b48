"""`payments pending`: what it lists, for people and machines, and how it exits."""

import json
import time
from typing import Any

import pytest

from dataflow.errors import ConsumeError
from dataflow.kafka import preflight
from dataflow.pending_tools import list_command
from tests.pending_tools.samples import (
    ENVIRON,
    HOUR_S,
    LANE,
    NOW_S,
    TOPIC,
    end,
    entry,
    unresolved,
    write,
)
from tests.support.fake_scan import FakeScan


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> FakeScan:
    made = FakeScan()
    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(list_command, "TopicScan", lambda *_: made)
    monkeypatch.setattr(time, "time", lambda: NOW_S)
    return made


def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any]:
    code = list_command.main(["--json", *argv], ENVIRON)
    out, err = capsys.readouterr()
    assert err == "", "in a pipe there is no progress"
    return code, json.loads(out)


def ids(found: Any) -> list[str]:
    return [each["paymentId"] for each in found["entries"]]


def test_nothing_that_waits_is_good(scan: FakeScan, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_command.main([], ENVIRON) == 0
    assert capsys.readouterr().out == "0 pending, 0 of them unresolved\n"
    assert scan.reads == [TOPIC]


def test_an_entry_has_what_a_person_looks_for(
    scan: FakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    write(scan, entry("pay_1", age_s=49 * HOUR_S, amount="1234.5"), entry("pay_2", offset=8))
    assert list_command.main([], ENVIRON) == 0
    head, first, second, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == [
        *("PAYMENT", "AMOUNT", "CURRENCY", "AGE", "ATTEMPTS", "NEXT", "STATE", "REASON"),
    ]
    assert first.split() == [
        *("pay_1", "1234.50", "USD", "2d", "1h", "3", "in", "1m", "30s", "pending"),
        *("no", "answer", "within", "10", "s"),
    ]
    assert second.startswith("pay_2      10.00  USD")
    assert "user_1" not in first, "no more of the payload than what is listed"


def test_the_last_record_of_an_entry_counts_and_a_tombstone_ends_it(
    scan: FakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    write(scan, entry("pay_1"), entry("pay_2", offset=8), entry("pay_1", attempts=9))
    end(scan, entry("pay_2", offset=8))
    _, found = listed(capsys)
    assert [(each["paymentId"], each["attempts"]) for each in found["entries"]] == [("pay_1", 9)]


def test_an_unresolved_payment_is_the_exit_code(
    scan: FakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    write(scan, entry("pay_1"), unresolved("pay_2", 8))
    code, found = listed(capsys)
    assert (code, found["unresolved"], ids(found)) == (1, 1, ["pay_1", "pay_2"])
    code, found = listed(capsys, "--payment-id", "pay_1")
    assert (code, ids(found)) == (0, ["pay_1"])
    assert list_command.main(["--unresolved"], ENVIRON) == 1
    out = capsys.readouterr().out
    assert "pay_1" not in out
    assert "-     unresolved  no answer" in out, "there is no next attempt"


def test_old_ones_can_be_chosen(scan: FakeScan, capsys: pytest.CaptureFixture[str]) -> None:
    write(scan, entry("new", age_s=10), entry("old", offset=8, age_s=2 * HOUR_S))
    write(scan, entry("edge", offset=9, age_s=HOUR_S))
    assert ids(listed(capsys, "--older-than", "1h")[1]) == ["old", "edge"]


def test_the_summary_is_of_what_was_chosen(
    scan: FakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        scan,
        entry("pay_1", amount="0.10"),
        entry("pay_2", offset=8, amount="0.20", age_s=2 * HOUR_S),
        entry("pay_3", offset=9, amount="300", currency="JPY", reason="HTTP 500"),
    )
    _, found = listed(capsys)
    assert found["money"] == {"JPY": "300", "USD": "0.30"}
    assert found["reasons"] == [
        {"reason": "no answer within 10 s", "count": 2},
        {"reason": "HTTP 500", "count": 1},
    ]
    assert (found["count"], found["oldestSeconds"]) == (3, 7200)
    assert listed(capsys, "--payment-id", "pay_3")[1]["money"] == {"JPY": "300"}


def test_a_record_that_no_lane_has_written_does_not_count(
    scan: FakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    scan.put(TOPIC, b"{}", entry().event_id.encode())
    scan.put(TOPIC, None, entry().event_id.encode())
    write(scan, entry())
    scan.put(TOPIC, None, entry().event_id.encode())
    _, found = listed(capsys)
    assert (ids(found), len(found["notes"])) == (["pay_1"], 1)
    assert "no lane has written 3 records" in found["notes"][0]


def test_a_payment_that_a_person_has_decided_is_shown_as_that(
    scan: FakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    write(scan, unresolved("pay_1", 7), unresolved("pay_2", 8))
    for each in (unresolved("pay_1", 7), unresolved("pay_2", 8)):
        scan.put(TOPIC, b"{}", b"decision/" + each.event_id.encode())
    scan.put(TOPIC, None, b"decision/" + unresolved("pay_2", 8).event_id.encode(), LANE)
    _, found = listed(capsys)
    decided = {each["paymentId"]: each["isDecided"] for each in found["entries"]}
    assert decided == {"pay_1": True, "pay_2": False}
    assert found["notes"] == []
    list_command.main([], ENVIRON)
    assert "-     decided" in capsys.readouterr().out


def test_an_entry_of_a_newer_version_is_noted(
    scan: FakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    scan.put(TOPIC, b'{"layout": 2}', b"x", LANE)
    assert "1 entries cannot be read" in listed(capsys)[1]["notes"][0]


def test_a_payment_id_moves_no_cursor(scan: FakeScan, capsys: pytest.CaptureFixture[str]) -> None:
    write(scan, entry("\x1b[2Jpay\r"))
    list_command.main([], ENVIRON)
    out = capsys.readouterr().out
    assert "\\x1b[2Jpay\\r" in out
    assert "\x1b" not in out


def test_a_cluster_that_does_not_answer(
    scan: FakeScan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ConsumeError("Kafka does not answer")

    monkeypatch.setattr(scan, "bounds_now", fail)
    assert list_command.main([], ENVIRON) == 2
    assert capsys.readouterr() == ("", "Kafka does not answer\n")


def test_a_wrong_setting_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_command.main([], {**ENVIRON, "KAFKA_TOPIC_PENDING": "a b"}) == 2
    assert capsys.readouterr().err.startswith("KAFKA_TOPIC_PENDING: expected a topic name")


@pytest.mark.parametrize("argv", [["--older-than", "soon"], ["--all"], ["pay_1"]])
def test_a_wrong_argument_is_named(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        list_command.main(argv, ENVIRON)
    assert exited.value.code == 2
    assert argv[0] in capsys.readouterr().err
