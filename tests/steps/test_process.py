"""process: charges what is to be charged, and nothing else, and never mixes up two replies."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.decision import GatewayDecision, Repeated
from dataflow.core.items import ControlMessage, DedupedBatch, OutcomeBatch, Remembered, Signal
from dataflow.core.verdicts import Verdict
from dataflow.errors import GatewayFaultError
from dataflow.steps.process import Process
from schemas.outcomes import ErrorCode, EventType
from schemas.replies import Approved, Declined
from schemas.requests import PaymentRequest
from tests.steps.step_samples import CONFLICT, DUPLICATE, FIRST, READ_AT, judged, rejected, request


class Gateway:
    """A gateway that approves with the paymentId as the reference; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, requests: list[PaymentRequest]) -> list[Approved | Declined]:
        self.asked.append([each.payment_id for each in requests])
        return [
            Declined(ErrorCode.DECLINED, each.payment_id, retryable=False)
            if "decline" in each.payment_id
            else Approved(each.payment_id)
            for each in requests
        ]


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def process(
    gateway: Gateway, *items: tuple[str, DedupedBatch | ControlMessage], at_most: int = 1000
) -> list[tuple[str, OutcomeBatch | ControlMessage]]:
    return Process("requested", gateway, at_most, lambda *_: None)(list(items))


def decided(item: tuple[str, OutcomeBatch | ControlMessage]) -> OutcomeBatch:
    assert isinstance(item[1], OutcomeBatch)
    return item[1]


def words(outcomes: OutcomeBatch) -> list[str]:
    """Return the gateway's answers, in the order of the records."""
    return [
        each.reply.reference if isinstance(each.reply, Approved) else each.reply.message
        for each in outcomes.outcomes
        if isinstance(each, GatewayDecision)
    ]


class TestCharging:
    def test_only_a_first_request_is_charged(self, gateway: Gateway) -> None:
        first, other = request("pay_1"), request("pay_2")
        batch = judged(
            (first, FIRST),
            (first, DUPLICATE),
            (other, CONFLICT),
            (rejected(), FIRST),
            first_origin=42,
        )
        (item,) = process(gateway, ("000", batch))
        assert gateway.asked == [["pay_1"]]
        assert decided(item).outcomes == [
            GatewayDecision(first, Approved("pay_1")),
            Repeated(first, EventType.DUPLICATE, 42),
            Repeated(other, EventType.CONFLICT, 42),
            rejected(),
        ]

    def test_the_gateway_is_not_called_without_a_first_request(self, gateway: Gateway) -> None:
        process(gateway, ("000", judged((request(), DUPLICATE), (rejected(), FIRST))))
        assert gateway.asked == []

    def test_all_lanes_are_charged_at_once(self, gateway: Gateway) -> None:
        lanes = [(f"{n:03}", judged((request(f"pay_{n}"), FIRST))) for n in range(3)]
        process(gateway, *lanes)
        assert gateway.asked == [["pay_0", "pay_1", "pay_2"]]

    def test_but_not_more_than_the_gateway_settles_in_time(self, gateway: Gateway) -> None:
        batch = judged(*[(request(f"pay_{n}"), FIRST) for n in range(7)])
        (item,) = process(gateway, ("000", batch), at_most=3)
        assert [len(asked) for asked in gateway.asked] == [3, 3, 1]
        assert words(decided(item)) == [f"pay_{n}" for n in range(7)]

    @given(
        st.lists(st.lists(st.sampled_from([*Verdict, None]), max_size=6), max_size=5),
        st.integers(1, 5),
    )
    def test_each_request_gets_its_own_reply(
        self, lanes: list[list[Verdict | None]], at_most: int
    ) -> None:
        """However lanes, verdicts and the sizes of batches fall together."""
        items: list[tuple[str, DedupedBatch | ControlMessage]] = []
        expected = []
        for lane, verdicts in enumerate(lanes):
            names = [f"{'decline_' * (n % 2)}{lane}_{n}" for n in range(len(verdicts))]
            records = [
                (rejected(), FIRST) if verdict is None else (request(name), verdict)
                for name, verdict in zip(names, verdicts, strict=True)
            ]
            items += [
                (f"{lane:03}", judged(*records)),
                (f"{lane:03}", ControlMessage(Signal.REFRESH_OFFSETS, 0, 0)),
            ]
            expected.append(
                [name for name, verdict in zip(names, verdicts, strict=True) if verdict is FIRST]
            )
        out = process(Gateway(), *items, at_most=at_most)
        assert [words(item) for _, item in out if isinstance(item, OutcomeBatch)] == expected

    def test_a_fault_of_the_gateway_is_not_an_outcome(self) -> None:
        def unreachable(_: list[PaymentRequest]) -> list[Approved | Declined]:
            raise GatewayFaultError("no answer")

        step = Process("requested", unreachable, 10, lambda *_: None)
        with pytest.raises(GatewayFaultError):
            step([("000", judged((request(), FIRST)))])


def test_records_keep_their_lane_order_and_position(gateway: Gateway) -> None:
    signal = ControlMessage(Signal.RESTORE, 3, 7)
    batch = judged((request(), FIRST), (rejected(), FIRST), partition=3, first_offset=7)
    out = process(gateway, ("005", signal), ("002", batch), ("005", signal))
    assert [lane for lane, _ in out] == ["005", "002", "005"]
    assert out[0][1] is out[2][1] is signal
    result = decided(out[1])
    assert [source.offset for source in result.sources] == [7, 8]
    assert {source.topic for source in result.sources} == {"requested"}
    assert len(set(result.event_ids)) == 2
    assert (result.partition, result.next_offset) == (3, 9)
    assert result.times_ms.tolist() == [70, 80]
    assert (result.entries, result.remembered) == (b"entries", Remembered(7, 5))


def test_the_time_until_the_decision_is_reported(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: READ_AT + 0.25)
    told: list[tuple[float, int]] = []
    step = Process("requested", gateway, 10, lambda *numbers: told.append(numbers))
    (item,) = step([("000", judged((request(), FIRST), (rejected(), FIRST)))])
    assert told == [(0.25, 2)]
    assert decided(item).decided_at == READ_AT + 0.25
