"""The demo, as it runs, and its parts that need no broker."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from dataflow.cli import refusal
from dataflow.config.variables import VARIABLES
from dataflow.demo.accounts import AuditedRecord, DemoAccounts, Totals
from dataflow.demo.broker import APART
from dataflow.demo.provider import FIRST_OUTAGE_S, OUTAGE_S, DemoProvider
from dataflow.demo.snapshot import DemoAddresses, Rate, Snapshot
from dataflow.demo.terminal_view import render
from dataflow.demo.text_view import PlainView, line, summary
from dataflow.demo.traffic import CONFLICT, DUPLICATE, KINDS, VALID, Outcome, Request, Traffic
from dataflow.gateways.simulated import SimulatedGateway
from schemas.outcomes import ErrorCode, EventType
from schemas.parsing import parse
from schemas.replies import Approved, Declined
from schemas.requests import KEY_BYTES, PaymentRequest
from tests import ROOT
from tests.support.kafka import ports

MAX_BYTES = 57_344
WAIT_S = 120.0
PROCESSED = Outcome(EventType.PROCESSED)
PAYMENTS = ("-m", "dataflow")
PAYMENTS_WITH_AN_OUTAGE_AT_ONCE = (
    "-c",
    """
import sys
from dataflow.cli import main
from dataflow.demo import provider
provider.FIRST_OUTAGE_S = 0.0
sys.exit(main())
""",
)


class Running:
    """A demo on the embedded broker, in a process group of its own as a terminal gives it."""

    def __init__(
        self,
        directory: Path,
        *args: str,
        port: int | None = None,
        command: tuple[str, ...] = PAYMENTS,
    ) -> None:
        self.directory = directory
        self.port, metrics_port = ports.free(2)
        ours = ("KAFKA_", "BYTEWAX_")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.process = subprocess.Popen(
            [sys.executable, *command, "demo", "--seed", "7", "--rate", "400", *args],
            cwd=ROOT,
            env=environ
            | {
                "PORT": str(port or self.port),
                "METRICS_PORT": str(metrics_port),
                "TMPDIR": str(directory),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            # Twice: whatever it waits for, the flow must not stay behind.
            self.process.terminate()
            time.sleep(0.5)
            self.process.terminate()
        self.process.communicate(timeout=WAIT_S)

    def left_over(self) -> list[str]:
        """Return the files and processes that it has left behind."""
        files = [str(path) for path in self.directory.rglob("*")]
        mark = str(self.directory).encode()
        for process in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in process.read_bytes():
                    files.append(str(process.parent))
            except OSError:
                pass  # another user's, or just ended
        return files


def test_it_runs_for_a_while_and_every_request_has_its_audit_event(tmp_path: Path) -> None:
    with Running(tmp_path, "--seconds", "2") as demo:
        output, errors = demo.process.communicate(timeout=WAIT_S)
        assert (demo.process.returncode, errors) == (0, ""), output
        assert "worthless as proof" in output
        assert f"http://localhost:{demo.port}/health" in output
        assert "AGREES: each request has exactly one audit event" in output
        assert "\x1b" not in output
        name, sent, audited = next(
            line.split() for line in output.splitlines() if line.startswith("total")
        )
        assert int(sent) == int(audited) > 0, name
        assert demo.left_over() == []


def test_a_provider_of_its_own_is_away_and_then_has_charged_what_was_processed(
    tmp_path: Path,
) -> None:
    args = ("--seconds", f"{OUTAGE_S - 1:g}", "--gateway", "http")
    with Running(tmp_path, *args, command=PAYMENTS_WITH_AN_OUTAGE_AT_ONCE) as demo:
        output, errors = demo.process.communicate(timeout=WAIT_S)
        assert (demo.process.returncode, errors) == (0, ""), output
        assert re.search(r" held .*; provider refuses connections for \d s; sending", output)
        assert "AGREES: each request has exactly one audit event" in output
        last = [line for line in output.splitlines() if "stopping the flow" in line][-1]
        [charged] = re.findall(r"has charged ([\d,]+) payments", last)
        [processed] = re.findall(r"(\d+) processed", last)
        assert int(charged.replace(",", "")) == int(processed) > 0
        assert demo.left_over() == []


def test_the_provider_of_the_demo_is_away_for_a_time_and_then_shown_so(tmp_path: Path) -> None:
    with DemoProvider(tmp_path) as provider:
        url = provider.environ()["HTTP_GATEWAY_URL"]

        def answers() -> bool:
            parts = urlsplit(url)
            with socket.socket() as client:
                return client.connect_ex((parts.hostname or "", parts.port or 0)) == 0

        assert provider.at(0, may_fail=False) == "answers; has charged 0 payments"
        assert provider.at(100, may_fail=True).startswith("answers"), "the first request"
        assert answers()
        begins_s = 100 + FIRST_OUTAGE_S
        assert provider.at(begins_s, may_fail=True) == f"refuses connections for {OUTAGE_S:.0f} s"
        assert not answers()
        assert provider.at(begins_s + 60, may_fail=False).startswith("answers"), "no second one"


def test_ctrl_c_stops_it_once_all_requests_are_audited(tmp_path: Path) -> None:
    with Running(tmp_path) as demo:
        assert demo.process.stdout
        for printed in demo.process.stdout:
            if "sending" in printed:
                break
        time.sleep(0.5)
        os.killpg(demo.process.pid, signal.SIGINT)
        output, errors = demo.process.communicate(timeout=WAIT_S)
        assert (demo.process.returncode, errors) == (0, ""), output
        assert "AGREES" in output
        assert demo.left_over() == []


def test_the_reason_is_shown_and_the_log_kept_when_the_flow_dies(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with Running(tmp_path, port=port) as demo:
            _, errors = demo.process.communicate(timeout=WAIT_S)
    assert demo.process.returncode == 1
    assert f"PORT: port {port} is already in use" in errors
    assert "ended with exit code 1" in errors
    (log,) = (path for path in demo.left_over() if not Path(path).is_dir())
    assert f"all of it is in {log}" in errors


def test_it_refuses_a_python_without_bytewax() -> None:
    assert refusal((3, 11)) is None
    assert refusal((3, 12)) is None
    assert "use Python 3.11 or 3.12" in (refusal((3, 13)) or "")
    assert "use Python 3.11 or 3.12" in (refusal((3, 10)) or "")


# ---- what is sent ----


def made_up(count: int, seed: int = 1) -> list[Request]:
    return list(islice(Traffic(seed, MAX_BYTES), count))


def test_a_demo_on_a_real_broker_shares_nothing_with_the_flow_that_is_there() -> None:
    """Neither its topics, nor its group: made-up payments would be charged by it."""
    defaults = {
        each.name: each.default
        for each in VARIABLES
        if each.name.startswith("KAFKA_TOPIC_") or each.name == "KAFKA_GROUP_ID"
    }
    assert len(defaults) == 7
    assert APART.keys() == defaults.keys()
    assert all(APART[name] != default for name, default in defaults.items())
    assert len(set(APART.values())) == len(APART)


def test_the_seed_alone_decides_what_is_sent() -> None:
    assert made_up(2_000) == made_up(2_000)
    assert made_up(50) != made_up(50, seed=2)


def test_the_kinds_have_the_shares_they_are_documented_with() -> None:
    assert sum(kind.share for kind in KINDS) == pytest.approx(1)
    counts = Counter(request.kind for request in made_up(20_000))
    for kind in KINDS:
        assert counts[kind] == pytest.approx(20_000 * kind.share, rel=0.4), kind.name


async def outcomes(requests: list[Request]) -> list[Outcome]:
    """Return what the rules of the flow make of them."""
    gateway = SimulatedGateway(decline_rate=0)
    known: dict[bytes, bytes] = {}
    found: list[Outcome] = []
    for request in requests:
        parsed = parse(request.value, MAX_BYTES)
        if not isinstance(parsed, PaymentRequest):
            found.append(Outcome(EventType.FAILED, parsed.code))
            continue
        key, content = parsed.identity()[:KEY_BYTES], parsed.identity()[KEY_BYTES:]
        if key in known:
            same = known[key] == content
            found.append(Outcome(EventType.DUPLICATE if same else EventType.CONFLICT))
            continue
        known[key] = content
        reply = None
        while not isinstance(reply, Approved | Declined):
            reply = await gateway.charge(parsed, "")
        if isinstance(reply, Declined):
            found.append(Outcome(EventType.FAILED, reply.code))
        else:
            found.append(PROCESSED)
    return found


def test_each_request_has_the_outcome_it_was_made_for_in_any_order() -> None:
    requests = made_up(10_000)
    expected = [request.kind.outcome for request in requests]
    assert asyncio.run(outcomes(requests)) == expected
    assert Counter(asyncio.run(outcomes(requests[::-1]))) == Counter(expected)


def test_amounts_are_exact_in_several_currencies() -> None:
    parsed = [parse(r.value, MAX_BYTES) for r in made_up(2_000) if r.kind is VALID]
    requests = [request for request in parsed if isinstance(request, PaymentRequest)]
    decimals = {r.currency: r.digits.partition(b".")[2] for r in requests}
    assert {code: len(digits) for code, digits in decimals.items()} == {
        **dict.fromkeys(["USD", "EUR", "GBP", "CHF", "BRL"], 2),
        "JPY": 0,
        "KWD": 3,
    }
    assert {bytes(r.written_amount)[:1] == b'"' for r in requests} == {True, False}


# ---- the accounts ----


def seen(outcome: Outcome = PROCESSED, payment_id: str | None = "pay_1") -> AuditedRecord:
    return AuditedRecord(payment_id, outcome)


def test_the_accounts_agree_whichever_report_comes_first() -> None:
    accounts = DemoAccounts({0: 5})
    accounts.sent(0, 5, VALID)
    accounts.audited(0, 5, seen())
    accounts.audited(0, 6, seen(DUPLICATE.outcome))
    assert accounts.totals().foreign == 1
    accounts.sent(0, 6, DUPLICATE)
    totals = accounts.totals()
    assert totals.disagreements() == []
    assert (totals.sent_total, totals.audited_total, totals.foreign) == (2, 2, 0)
    assert totals.ends == {0: 7}


def test_a_missing_a_repeated_and_a_wrong_event_do_not_agree() -> None:
    missing = DemoAccounts({0: 0})
    missing.sent(0, 0, VALID)
    assert missing.totals().disagreements() == ["requests without an audit event: 1"]

    repeated = DemoAccounts({0: 0})
    repeated.sent(0, 0, VALID)
    repeated.audited(0, 0, seen())
    repeated.audited(0, 0, seen())
    assert repeated.totals().disagreements() == ["audit events beyond the first for a request: 1"]

    wrong = DemoAccounts({0: 0})
    wrong.sent(0, 0, VALID)
    wrong.audited(0, 0, seen(CONFLICT.outcome))
    assert wrong.totals().disagreements() == [
        "some requests had another outcome than they were made for"
    ]


def test_foreign_records_are_distinguished() -> None:
    accounts = DemoAccounts({0: 5})
    accounts.audited(0, 3, seen())  # a backlog
    accounts.audited(0, 3, seen())
    accounts.audited(0, 9, seen())  # another sender's, now
    accounts.sent(0, 8, VALID)
    accounts.audited(0, 8, seen())
    accounts.undelivered()
    totals = accounts.totals()
    assert (totals.foreign, totals.open, totals.disagreements()) == (3, 0, [])
    assert "did not send: 3" in summary(totals)
    assert "Not taken by the broker, so not counted as sent: 1" in summary(totals)


# ---- what is shown ----

PLACE = DemoAddresses(
    "embedded mock", "http://localhost:3000", "http://localhost:9090/metrics", "/x.log"
)


def moment(elapsed_s: float = 1.0, doing: str = "sending", count: int = 20) -> Snapshot:
    accounts = DemoAccounts({0: 0, 1: 0})
    for offset in range(count):
        accounts.sent(0, offset, VALID)
        accounts.audited(0, offset, seen())
    accounts.audited(
        1, 0, seen(Outcome(EventType.FAILED, ErrorCode.CARD_EXPIRED), "p\x1b[2J:[red]")
    )
    return Snapshot(elapsed_s, "ready", doing, accounts.totals(), 200.0, 190.0, {0: 12, 1: 3})


def test_plain_lines_are_few_and_have_no_control_characters() -> None:
    out = StringIO()
    with PlainView(out) as view:
        for elapsed_s in (0.0, 1.0, 2.9, 3.1):
            view.show(moment(elapsed_s))
        view.show(moment(3.3, doing="stopping"))
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["0.0", "3.1", "3.3"]
    assert "sent 20 (200/s)  audited 21 (190/s): 20 processed, 1 failed" in lines[0]
    assert "lag 15; sending" in lines[0]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (100, 35)])
def test_the_screen_has_room_for_everything(columns: int, lines: int) -> None:
    out = StringIO()
    console = Console(file=out, width=columns, height=lines, force_terminal=False)
    console.print(render(PLACE, moment()))
    text = out.getvalue()
    assert len(text.splitlines()) == lines
    wanted = ["ready", "/health /ready /live", "9090/metrics", "/x.log", "conflict"]
    wanted += ["processed", "duplicate", *(set(ErrorCode) - {ErrorCode.UNKNOWN_SCHEMA})]
    for part in [*wanted, "sent    20", "[0] 12 [1] 3", "failed: card_expired", "21 in total"]:
        assert part in text
    assert "p\N{MIDDLE DOT}[2J:[red]" in text
    assert "\x1b" not in text


def test_an_unknown_schema_is_shown_once_there_is_one() -> None:
    accounts = DemoAccounts({0: 0})
    accounts.audited(0, 0, seen(Outcome(EventType.FAILED, ErrorCode.UNKNOWN_SCHEMA), None))
    out = StringIO()
    shown = moment()._replace(totals=accounts.totals())
    Console(file=out, width=80, height=24, force_terminal=False).print(render(PLACE, shown))
    assert re.search(r"unknown_schema +1 ", out.getvalue())


def test_the_provider_is_shown_where_there_is_one() -> None:
    out = StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=False)
    shown = moment()._replace(provider="refuses connections for 4 s")
    console.print(render(PLACE, shown))
    assert "provider refuses connections for 4 s" in out.getvalue()
    assert "invalid_payment_method" in out.getvalue(), "everything else still has room"
    assert "; provider refuses connections for 4 s; sending" in line(shown)
    assert "provider" not in line(moment())


def test_the_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.at(0.0, 0) == 0
    assert rate.at(1.0, 100) == 100
    assert [rate.at(second, 100) for second in (4.0, 9.0)] == [25, 0]


def test_the_summary_fits_a_terminal() -> None:
    totals: Totals = moment().totals
    lines = summary(totals).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["valid", "20", "processed", "20"] for line in lines)
