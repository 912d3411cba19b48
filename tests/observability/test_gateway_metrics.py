"""The calls to the gateway and what waits for it, as a scrape shows them."""

from prometheus_client import CollectorRegistry

from dataflow.core.charging import CallKind, ChargingFigures
from dataflow.core.hold import HoldCause
from dataflow.gateways.call_counts import CallCounts
from dataflow.gateways.port import Approved, Declined, NotExecuted, Unknown
from dataflow.observability.gateway_metrics import GatewayMetrics
from schemas.outcomes import ErrorCode

DECLINED = Declined(ErrorCode.DECLINED, "No.", retryable=False)


def scraped(figures: ChargingFigures) -> dict[str, float]:
    """Return each sample by its name and the values of its labels."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(GatewayMetrics(lambda: figures))
    return {
        " ".join([sample.name, *sample.labels.values()]).removeprefix("payments_"): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def counted(counts: CallCounts) -> dict[str, float]:
    """Return what a scrape shows of such counts."""
    return scraped(
        ChargingFigures(
            calls=counts.calls,
            replies=counts.replies,
            key_replays=counts.key_replays,
            durations=counts.durations,
        )
    )


def test_every_series_but_those_of_calls_that_take_time_is_there_from_the_start() -> None:
    found = counted(CallCounts())
    assert set(found.values()) == {0}
    assert "gateway_replies_total Misconfigured" in found
    assert "gateway_calls_total look_up" in found
    assert "gateway_held peer" in found
    assert "gateway_call_duration_seconds_count none" in found
    assert "gateway_rate_limit" not in found, "there is none"


def test_a_hold_has_one_cause() -> None:
    figures = ChargingFigures(hold_cause=HoldCause.MISCONFIGURED, held_for_s=12.5)
    found = scraped(figures)
    held = {name: value for name, value in found.items() if name.startswith("gateway_held ")}
    assert held == {
        "gateway_held outage": 0,
        "gateway_held misconfigured": 1,
        "gateway_held parked": 0,
        "gateway_held peer": 0,
    }
    assert found["gateway_held_seconds"] == 12.5


def test_parked_payments_have_a_number_an_age_and_those_that_need_a_person() -> None:
    found = scraped(
        ChargingFigures(parked=7, parked_most=100, oldest_parked_for_s=61.0, unresolved=2)
    )
    assert found["pending"] == 7
    assert found["pending_max"] == 100
    assert found["pending_oldest_seconds"] == 61
    assert found["unresolved"] == 2


def test_the_limits_are_shown_beside_what_they_limit() -> None:
    found = scraped(ChargingFigures(in_flight=3, window=8, rate_limit=25.0, queued=4, waiting=5))
    assert (found["gateway_in_flight"], found["gateway_window"]) == (3, 8)
    assert (found["gateway_rate_limit"], found["gateway_queued"]) == (25, 4)
    assert found["gateway_waiting"] == 5


def test_a_call_is_counted_by_its_kind_and_by_its_reply() -> None:
    counts = CallCounts()
    counts.replied(CallKind.CHARGE, Approved("ch_1"), 0.2)
    counts.replied(CallKind.CHARGE, Unknown("timeout"), 9.0)
    counts.replied(CallKind.LOOK_UP, None, 0.03)
    counts.probed()
    found = counted(counts)
    assert found["gateway_calls_total charge"] == 2
    assert found["gateway_calls_total look_up"] == 1
    assert found["gateway_calls_total probe"] == 1
    assert found["gateway_replies_total Approved"] == 1
    assert found["gateway_replies_total Unknown"] == 1
    assert found["gateway_replies_total NotFound"] == 1
    assert sum(value for name, value in found.items() if "replies_total" in name) == 3


def test_the_time_of_a_decision_is_apart_from_that_of_a_call_without_one() -> None:
    counts = CallCounts()
    counts.replied(CallKind.CHARGE, Approved("ch_1"), 0.2)
    counts.replied(CallKind.CHARGE, DECLINED, 0.2)
    counts.replied(CallKind.CHARGE, NotExecuted("refused"), 0.001)
    found = counted(counts)
    name = "gateway_call_duration_seconds"
    assert found[f"{name}_bucket definite 0.1"] == 0
    assert found[f"{name}_bucket definite 0.25"] == 2
    assert found[f"{name}_count definite"] == 2
    assert found[f"{name}_sum definite"] == 0.4
    assert found[f"{name}_bucket none 0.005"] == found[f"{name}_count none"] == 1


def test_a_batch_counts_as_so_many_calls() -> None:
    counts = CallCounts()
    counts.replied_to_all([Approved("1"), DECLINED, Unknown("?"), Approved("2")], 0.02)
    counts.replied_to_all([], 0.5)
    found = counted(counts)
    assert found["gateway_calls_total charge"] == 4
    assert found["gateway_replies_total Approved"] == 2
    assert found["gateway_call_duration_seconds_count definite"] == 3
    assert found["gateway_call_duration_seconds_count none"] == 1
