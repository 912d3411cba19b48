"""The status page as a document, read without a browser."""

import html
import re
import time
from typing import get_args

import pytest

from dataflow.core.charging import ChargingFigures
from dataflow.core.commit_counts import CommitCounts
from dataflow.observability.status import Word
from dataflow.web.status_page.chart import chart
from dataflow.web.status_page.formatting import age, count, percent, rate
from dataflow.web.status_page.render import POLICY, STATES, render
from schemas.outcomes import ErrorCode
from tests.page.shown import Process


@pytest.fixture
def process() -> Process:
    return Process()


def rendered(process: Process) -> str:
    return render(process.status, process.metrics)


def words(process: Process) -> str:
    """Return what is to be read, a space for each tag."""
    body = rendered(process).partition("<body>")[2].partition("<script>")[0]
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", body)).split())


def test_a_missing_status_is_shown_as_missing(process: Process) -> None:
    text = words(process)
    assert text.startswith("Starting partitions not assigned yet This process, version 1.2.3, up ")
    assert "Successful – in the last 5 minutes Waiting – records" in text
    assert "Failures None since the start." in text
    assert "Input partitions None assigned yet. Lanes None open yet." in text
    assert "Kafka not known yet" in text
    assert "Last epoch never" in text


def test_it_has_every_figure() -> None:
    at = time.time()
    process = Process(wall=lambda: at)
    process.flows(partitions=3, lanes=2)
    text = words(process)
    assert text.startswith("Payments flow This process")
    assert "Decided 1,013 a second" in text
    assert "Successful 96.8 %" in text
    assert "Waiting 40 records Oldest waiting 7.0 s" in text
    assert "Conflicts 6 in the last 5 minutes" in text
    assert "Duplicates 55 15,050 15,050" in text
    assert "declined 1,200 6,000 6,000 invalid 480 2,400 2,400" in text
    assert "Input partitions (3)" in text
    assert "0 5,000 0 – live 1 5,001 40 7.0 s live 2 5,002 0 – live" in text
    assert "Lanes (2 of 2 open)" in text
    assert re.search(r"Lane Last commit 000 [\d.]+ s ago 001 [\d.]+ s ago", text)
    assert "Kafka reachable Waiting for nothing" in text
    assert "Remembered ids 2,000 Recovery store none" in text


@pytest.mark.parametrize(("gateway", "shown"), [("simulated", True), ("http", False)])
def test_a_gateway_that_charges_nobody_is_a_banner(
    process: Process, gateway: str, *, shown: bool
) -> None:
    process.flows()
    process.status.about = process.status.about._replace(gateway=gateway)
    banner = "Simulated gateway: payments are approved, and nobody is charged."
    assert (banner in words(process)) is shown


def test_problems_are_at_the_top(process: Process) -> None:
    process.flows()
    process.status.broker_down("all brokers are down")
    assert words(process).startswith(
        "Waiting for Kafka Kafka is unreachable: all brokers are down This"
    )
    process.status.broker_up()
    process.status.start_draining()
    with process.status.waiting("Kafka commit"):
        text = words(process)
    assert text.startswith("Stopping draining This process")
    assert "Waiting for Kafka commit" in text


def test_a_client_that_delivers_nothing_is_at_the_top(process: Process) -> None:
    process.flows()
    seconds = iter(range(10_000))
    process.status.partitions._monotonic = lambda: next(seconds)
    while process.status.ready()[0]:
        process.status.partitions.ends_at(1, 9000, 9000)
        process.status.partitions.nothing_came(1, 5041)
        for partition, position in process.status.partitions.to_be_witnessed().items():
            process.status.partitions.witnessed(partition, position)
    assert words(process).startswith(
        "Not receiving records partitions whose client delivers nothing, for "
    )


def test_a_stuck_process_shows_since_when(process: Process) -> None:
    process.flows()
    process.status._liveness._progress_at -= 75
    assert words(process).startswith("Stuck no epoch closed for 75 s (limit 60 s) This process")


def test_text_from_kafka_cannot_become_part_of_the_page(process: Process) -> None:
    process.status.broker_down("<script>alert(1)</script>&amp;\"'")
    page = rendered(process)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&quot;&#x27;" in page


def test_every_state_of_the_process_has_its_title() -> None:
    assert set(get_args(Word)) == STATES.keys()


def test_a_hold_is_at_the_top_with_its_reason_and_how_long_it_has_lasted(process: Process) -> None:
    process.flows()
    process.status.about = process.status.about._replace(gateway="stripe")
    process.holds()
    text = words(process)
    assert text.startswith(
        "Waiting for the gateway ready; held: the gateway has answered nobody for 75 s"
        " (HTTP 503, by rule 9) This process"
    )
    assert "Payment gateway Provider stripe State held for 1 min 15 s In flight" in text


def test_the_gateway_is_shown_with_what_waits_for_it(process: Process) -> None:
    process.flows()
    process.status.charging = lambda: ChargingFigures(
        in_flight=12,
        window=256,
        queued=40,
        waiting=1234,
        mean_latency_s=0.25,
        parked=1230,
        parked_most=20_000,
        oldest_parked_for_s=3725.0,
        unresolved=2,
    )
    text = words(process)
    assert "Pending 1,230 parked without an answer Unresolved 2 need a person" in text
    assert (
        "State charging In flight 12 of 256 Mean time to answer 0.2 s Waiting for the first call 40"
        " To be asked for again 1,234 Pending 1,230 of 20,000 at most Oldest pending 1 h 2 min"
        " Unresolved 2" in text
    )
    assert '<td><span class="warn">2</span></td>' in rendered(process)


def test_a_reason_of_the_provider_cannot_become_part_of_the_page(process: Process) -> None:
    process.flows()
    process.status.about = process.status.about._replace(gateway="<b>acme</b>")
    process.holds(hold_reason="<script>alert(1)</script>")
    page = rendered(process)
    assert "<script>alert" not in page
    assert "<b>acme" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_partition_that_is_not_live_yet_stands_out(process: Process) -> None:
    process.status.assign([4], lanes=0)
    assert '<td>–</td><td><span class="warn">catching up</span></td>' in rendered(process)


def test_nothing_in_it_comes_from_elsewhere(process: Process) -> None:
    process.flows()
    page = rendered(process)
    assert "//" not in re.sub(r"xmlns='http://www\.w3\.org/2000/svg'|\n\s*// .*", "", page)
    assert not re.search(r"\sstyle=|\son\w+=|@import|url\(", page), "nor is there inline code"
    assert "unsafe" not in POLICY


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "said"),
        [
            (None, "never"),
            (0, "0.0 s"),
            (0.34, "0.3 s"),
            (59.9, "59 s"),
            (60, "1 min 0 s"),
            (3599, "59 min 59 s"),
            (3725, "1 h 2 min"),
            (90_000, "1 d 1 h"),
        ],
    )
    def test_ages(self, seconds: float | None, said: str) -> None:
        assert age(seconds) == said

    def test_the_word_all_means_all(self) -> None:
        assert percent(1_000_000, 1_000_000) == "100 %"
        assert percent(999_999, 1_000_000) == "99.9 %"
        assert percent(0, 7) == "0 %"
        assert percent(0, 0) == "–"

    def test_small_rates_have_a_decimal(self) -> None:
        assert [rate(n, 60) for n in (0, 3, 600, 6000, 120_000)] == [
            "0",
            "0.1",
            "10",
            "100",
            "2,000",
        ]
        assert count(1234567) == "1,234,567"


class TestChart:
    def bars(self, seconds: list[CommitCounts]) -> list[tuple[str, float, float, float]]:
        """Return kind, left, top and height of each part of a bar."""
        found = re.findall(
            r'<rect class="(\w+)" x="(\S+)" y="(\S+)" \S+ height="(\S+)"/>', chart(seconds)
        )
        return [(kind, float(x), float(y), float(height)) for kind, x, y, height in found]

    def test_the_highest_bar_fills_it_and_the_others_are_in_proportion(self) -> None:
        seconds = [CommitCounts(processed=8)] * 5 + [CommitCounts(processed=4)] * 5
        assert self.bars(seconds) == [("processed", 1, 0, 120), ("processed", 301, 60, 60)]
        assert "at most 8.0 a second" in chart(seconds)

    def test_parts_stand_on_each_other(self) -> None:
        counts = CommitCounts(processed=6, duplicates=3, failed={ErrorCode.INVALID: 3})
        assert self.bars([counts] * 5) == [
            ("processed", 1, 60, 60),
            ("duplicates", 1, 30, 30),
            ("failed", 1, 0, 30),
        ]

    def test_a_single_conflict_among_thousands_is_still_seen(self) -> None:
        [_, (kind, _, _, height)] = self.bars([CommitCounts(processed=10_000, conflicts=1)] * 5)
        assert (kind, height) == ("conflicts", 1)

    def test_nothing_is_nothing(self) -> None:
        assert self.bars([CommitCounts()] * 300) == []
