"""`payments reconcile`: its two sides, what it prints, and how it exits. Without a cluster."""

import json
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from dataflow.gateways import registry
from dataflow.gateways.listing import ListedPayment, ListError
from dataflow.kafka import preflight
from dataflow.reconcile import command
from schemas import events, pending
from schemas.events import ProcessedEvent, Records
from tests.pending_tools.samples import LANE, entry
from tests.redrive.test_selection import request
from tests.support.fake_scan import FakeScan
from tests.support.required import REQUIRED

NOW_S = 1_767_225_600.0
AT_S = NOW_S - 3_600
ENVIRON = {
    **REQUIRED,
    "KAFKA_TOPIC_PROCESSED": "processed",
    "KAFKA_TOPIC_FAILED": "failed",
    "KAFKA_TOPIC_PENDING": "pending",
}


class Provider:
    """A gateway that can list."""

    def __init__(self) -> None:
        self.charged: list[ListedPayment] = []
        self.asked: tuple[float, float] | None = None
        self.problem: str | None = None
        self.closed = False

    async def payments(self, since_s: float, until_s: float) -> AsyncIterator[ListedPayment]:
        self.asked = since_s, until_s
        for each in self.charged:
            yield each
        if self.problem is not None:
            raise ListError(self.problem)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> FakeScan:
    made = FakeScan()
    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(command, "TopicScan", lambda *_: made)
    monkeypatch.setattr(time, "time", lambda: NOW_S)
    return made


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    made = Provider()
    monkeypatch.setattr(registry, "create", lambda _settings: made)
    return made


def charged(payment_id: str, amount: str = "10.50", at_s: float = AT_S) -> ListedPayment:
    return ListedPayment(
        payment_id=payment_id,
        reference=f"ch_{payment_id}",
        amount=Decimal(amount),
        currency="USD",
        created_s=at_s,
    )


def publish(scan: FakeScan, payment_id: str, at_s: float = AT_S + 1) -> None:
    records = Records("requested", 0)
    event: ProcessedEvent = events.processed(
        records.event_id(1),
        records.source(1),
        request(payment_id, amount=Raw(b"10.500")),
        f"ch_{payment_id}",
        events.instant(at_s),
    )
    value = events.encode(event)
    scan.put("processed", value, payment_id.encode(), time_ms=int(at_s * 1000))


def compared(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any]:
    code = command.main(["--json", *argv], ENVIRON)
    out, err = capsys.readouterr()
    assert err == ""
    return code, json.loads(out)


def test_both_sides_agree(
    scan: FakeScan, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.charged = [charged("pay_1"), charged("pay_2")]
    publish(scan, "pay_1")
    publish(scan, "pay_2")
    assert command.main([], ENVIRON) == 0
    out, err = capsys.readouterr()
    assert "2  charged by the provider" in out
    assert "USD                 21.00                 21.00" in out
    assert out.endswith("\nBoth sides agree.\n")
    assert err == ""
    assert provider.closed


def test_the_last_day_is_compared_and_the_list_goes_further_back(
    scan: FakeScan, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = compared(capsys)
    assert (code, found["agrees"]) == (0, True)
    assert (found["since"], found["until"]) == (
        "2025-12-30T23:50:00.000Z",
        "2025-12-31T23:50:00.000Z",
    )
    since_s = NOW_S - 600 - 24 * 3600
    assert provider.asked == (since_s - 4 * 24 * 3600, NOW_S - 600 + 3600)
    assert scan.reads == ["pending", "processed", "failed"], "in this order: see `compare`"


def test_differences_are_the_exit_code(
    scan: FakeScan, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.charged = [charged("pay_1"), charged("pay_2", "10.51"), charged("pay_3")]
    provider.charged.append(charged("pay_5"))
    publish(scan, "pay_2")
    publish(scan, "pay_4")
    scan.put("failed", b"{}", b"pay_3", time_ms=int(AT_S * 1000))
    waits = entry("pay_5")
    scan.put("pending", pending.encode(waits), waits.event_id.encode(), LANE)
    code, found = compared(capsys)
    assert code == 1
    assert {each["paymentId"]: each["difference"] for each in found["findings"]} == {
        "pay_1": "not_published",
        "pay_2": "amount",
        "pay_3": "failed",
        "pay_4": "not_charged",
    }
    assert found["counts"] == {
        "charged": 4,
        "processed": 2,
        "waiting": 1,
        "pending": 1,
        "foreign": 0,
    }
    assert found["money"]["USD"] == {
        "charged": "42.01",
        "processed": "21.00",
        "waiting": "10.50",
        "difference": "10.51",
    }
    assert command.main([], ENVIRON) == 1
    out = capsys.readouterr().out
    line = "pay_2: another amount (charged 10.51 USD ch_pay_2; processed 10.50 USD ch_pay_2)"
    assert line in out
    assert out.endswith("\nThe sides DIFFER.\n")


def test_a_time_can_be_given(
    scan: FakeScan, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.charged = [charged("pay_1", at_s=NOW_S - 10 * 24 * 3600)]
    given = ["--since", "2025-12-21", "--until", "2025-12-23T00:00:00+00:00"]
    code, found = compared(capsys, *given)
    assert (code, found["differences"]["not_published"]) == (1, 1)
    assert compared(capsys)[0] == 0
    assert scan


def test_a_file_stands_in_for_the_gateway(
    scan: FakeScan,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "create", pytest.fail)
    file = tmp_path / "export.csv"
    file.write_text("ref,amount,currency\npay_1,10.50,USD\npay_2,1,USD\n")
    publish(scan, "pay_1")
    given = ["--provider-file", str(file), "--column", "paymentId=ref"]
    code, found = compared(capsys, *given)
    assert (code, [each["paymentId"] for each in found["findings"]]) == (1, ["pay_2"])


@pytest.mark.usefixtures("scan")
def test_a_list_that_ends_early_is_no_list(
    provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.charged, provider.problem = [charged("pay_1")], "HTTP 500"
    assert command.main([], ENVIRON) == 2
    assert capsys.readouterr() == ("", "the provider's list: HTTP 500\n")
    assert provider.closed


@pytest.mark.usefixtures("scan")
def test_a_gateway_without_a_list_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([], ENVIRON) == 2
    assert "GATEWAY=simulated has none; give a file (--provider-file)" in capsys.readouterr().err


def test_the_gateway_has_to_be_chosen_unless_there_is_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != "GATEWAY"}
    assert command.main([], environ) == 2
    assert capsys.readouterr().err.startswith("GATEWAY: required")


def test_an_event_that_cannot_be_read_is_noted(
    scan: FakeScan, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    assert provider
    scan.put("processed", b"{", b"pay_1", time_ms=int(AT_S * 1000))
    assert "1 records of the topics cannot be read" in compared(capsys)[1]["notes"][0]


@pytest.mark.usefixtures("scan")
def test_a_time_that_ends_before_it_begins_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--since", "2026-01-02", "--until", "2026-01-01"]
    assert command.main(given, ENVIRON) == 2
    assert capsys.readouterr().err == "--since: expected an instant before --until\n"


@pytest.mark.parametrize("argv", [["--column", "id=x"], ["--since", "?"], ["--lookback", "4"]])
def test_a_wrong_argument_is_named(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(argv, ENVIRON)
    assert exited.value.code == 2
    assert argv[0] in capsys.readouterr().err
