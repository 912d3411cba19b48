"""decode: every record goes to one lane, always the same one, unless that has committed it."""

import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.items import ControlMessage, LaneBatch, RecordBatch, Signal
from dataflow.core.lanes import lane_name, lane_of_key
from dataflow.steps.decode import Decode
from schemas.headers import Headers
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest, Rejected, key_of
from tests.steps.step_samples import (
    GARBAGE,
    MAX_BYTES,
    READ_AT,
    decode,
    fetched,
    lane_batches,
    lane_of,
    one_lane,
    parsed,
    payment,
)

payment_ids = st.sampled_from([f"pay_{n}" for n in range(20)])
records = (
    st.none()
    | st.just(GARBAGE)
    | st.binary(max_size=5)
    | st.builds(payment, payment_ids, st.integers(-1, 2))
)
LANES = 8


def test_lanes_are_named_so_that_they_sort() -> None:
    assert [lane_name(lane) for lane in (0, 7, 10, 255)] == ["000", "007", "010", "255"]


def test_each_lane_gets_the_headers_of_its_own_records() -> None:
    values = [payment(f"pay_{n}") for n in range(20)]
    headers: dict[int, Headers] = {
        offset: [("traceparent", b"%d" % offset)] for offset in (100, 107, 108, 119)
    }
    batches = lane_batches(LANES, fetched(*values, first_offset=100, headers=headers))
    found: dict[int, Headers] = {}
    for batch in batches.values():
        assert batch.headers.keys() <= {*batch.offsets.tolist()}
        found |= batch.headers
        copy = pickle.loads(pickle.dumps(batch))  # noqa: S301  (as the engine does)
        assert copy.headers == batch.headers
    assert found == headers


class TestLanes:
    @given(st.lists(records, min_size=1, max_size=30), st.integers(1, 20), st.integers(0, 2**40))
    def test_every_record_is_in_one_lane_in_order(
        self, values: list[bytes | None], lanes: int, first_offset: int
    ) -> None:
        batches = lane_batches(lanes, fetched(*values, first_offset=first_offset)).values()
        found = {
            int(offset): (value, int(time_ms))
            for batch in batches
            for offset, value, time_ms in zip(
                batch.offsets, batch.values, batch.times_ms, strict=True
            )
        }
        assert found == {
            first_offset + n: (value, (first_offset + n) * 10) for n, value in enumerate(values)
        }
        assert sum(len(batch.values) for batch in batches) == len(values)
        for batch in batches:
            assert batch.offsets.tolist() == sorted(batch.offsets)

    @given(st.lists(records, min_size=1, max_size=30))
    def test_the_valid_records_of_a_lane_have_their_identities(
        self, values: list[bytes | None]
    ) -> None:
        for batch in lane_batches(LANES, fetched(*values)).values():
            requests = [parsed(value) for value in batch.values]
            valid = [n for n, each in enumerate(requests) if isinstance(each, PaymentRequest)]
            assert batch.valid.tolist() == valid
            assert batch.identities == b"".join(
                each.identity() for each in requests if isinstance(each, PaymentRequest)
            )
            assert batch.requests(MAX_BYTES) == requests

    @given(records, st.lists(records, max_size=10), st.integers(0, 10), st.integers(1, 20))
    def test_a_record_has_its_lane_in_any_batch(
        self, value: bytes | None, others: list[bytes | None], at: int, lanes: int
    ) -> None:
        """A replay batches the records otherwise, and must find each where it was committed."""
        batches = lane_batches(lanes, fetched(*others[:at], value, *others[at:]))
        offset = min(at, len(others))
        (lane,) = [n for n, batch in batches.items() if offset in batch.offsets]
        assert lane == lane_of(value, lanes)

    @pytest.mark.parametrize(
        "value",
        [
            payment("pay_7"),
            payment("pay_7", amount=99),
            payment("pay_7", amount=-1),
            payment("pay_7", userId=None),
            b'{"paymentId":"pay_7"}',
            payment("pay_7", metadata={"note": "x" * MAX_BYTES}),
        ],
        ids=["valid", "conflict", "invalid", "unreadable user", "nothing else", "too large"],
    )
    def test_all_that_concerns_one_payment_id_is_in_one_lane(self, value: bytes) -> None:
        for lanes in (1, 8, 256):
            assert lane_of(value, lanes) == lane_of_key(key_of("pay_7"), lanes)

    def test_records_without_a_payment_id_are_spread_by_their_bytes(self) -> None:
        assert len({lane_of(b"garbage %d" % n, LANES) for n in range(100)}) == LANES

    def test_a_lane_has_the_end_of_the_whole_batch(self) -> None:
        batches = lane_batches(LANES, fetched(*[payment(f"pay_{n}") for n in range(50)]))
        assert len(batches) == LANES
        assert {batch.next_offset for batch in batches.values()} == {50}
        assert {batch.read_at for batch in batches.values()} == {READ_AT}


class TestCommitted:
    """Records that are read again after a crash: what their lane has committed goes nowhere."""

    @given(
        st.lists(records, min_size=1, max_size=30),
        st.dictionaries(st.integers(0, LANES - 1), st.integers(0, 140), min_size=1),
    )
    def test_each_lane_gets_exactly_what_it_has_not_committed(
        self, values: list[bytes | None], committed: dict[int, int]
    ) -> None:
        whole = lane_batches(LANES, fetched(*values, first_offset=100))
        again = lane_batches(LANES, fetched(*values, first_offset=100, committed=committed))
        assert {lane: batch.offsets.tolist() for lane, batch in again.items()} == {
            lane: left
            for lane, batch in whole.items()
            if (left := [n for n in batch.offsets.tolist() if n >= committed.get(lane, 0)])
        }
        for lane, batch in again.items():
            part = whole[lane].requests(MAX_BYTES)[-len(batch.values) :]
            assert batch.requests(MAX_BYTES) == part
            assert batch.next_offset == 100 + len(values)
            valid = [n for n, each in enumerate(part) if isinstance(each, PaymentRequest)]
            assert batch.valid.tolist() == valid
            assert batch.identities == b"".join(
                each.identity() for each in part if isinstance(each, PaymentRequest)
            )

    def test_dropped_records_are_not_counted_again(self) -> None:
        counted: list[tuple[int, int]] = []
        step = Decode(1, MAX_BYTES, lambda *numbers: counted.append(numbers))
        values = [payment("pay_1"), GARBAGE, payment("pay_2"), GARBAGE, None]
        list(step(fetched(*values, committed={0: 2})))
        assert counted == [(1, 2)]


class TestRefused:
    """A record that the source could not read stays what the source has found."""

    REFUSED = Rejected(code=ErrorCode.UNKNOWN_SCHEMA, message="schema id 7", original=b"\0")

    def batch(self) -> RecordBatch:
        batch = fetched(payment("pay_1"), b"\0\0\0\0\7x", payment("pay_2"), b"\0\0\0\0\7y")
        return replace(batch, refused={1: self.REFUSED, 3: self.REFUSED})

    def test_it_is_refused_in_its_place(self) -> None:
        lane = lane_batches(1, self.batch())[0]
        assert [type(each) for each in lane.requests(MAX_BYTES)] == [PaymentRequest, Rejected] * 2
        assert lane.requests(MAX_BYTES)[1] is self.REFUSED
        assert lane.valid.tolist() == [0, 2]

    def test_its_lane_is_that_of_its_bytes(self) -> None:
        """So a replay finds it where it was, whatever the registry answers then."""
        lanes = lane_batches(LANES, self.batch())
        found = {lane for lane, each in lanes.items() if self.REFUSED in each.requests(MAX_BYTES)}
        assert found == {lane_of(b"\0\0\0\0\7x", LANES), lane_of(b"\0\0\0\0\7y", LANES)}

    def test_it_is_the_same_in_another_process(self) -> None:
        for batch in lane_batches(LANES, self.batch()).values():
            received: LaneBatch = pickle.loads(pickle.dumps(batch))  # noqa: S301
            assert received.requests(MAX_BYTES) == batch.requests(MAX_BYTES)


class TestPickle:
    """The effect on a batch of an exchange between processes."""

    @given(st.lists(records, min_size=1, max_size=20))
    def test_the_requests_are_the_same_on_the_other_side(self, values: list[bytes | None]) -> None:
        batch = one_lane(*values)
        received: LaneBatch = pickle.loads(pickle.dumps(batch))  # noqa: S301
        assert received.requests(MAX_BYTES) == batch.requests(MAX_BYTES)
        assert received.values == batch.values
        assert received.identities == batch.identities
        assert received.valid.tolist() == batch.valid.tolist()
        assert received.offsets.tolist() == batch.offsets.tolist()

    def test_requests_are_parsed_again_and_not_sent(self) -> None:
        batch = one_lane(payment())
        assert b"PaymentRequest" not in pickle.dumps(batch)
        assert batch.parsed

    def test_parsed_requests_are_kept_inside_the_process(self) -> None:
        batch = one_lane(payment())
        assert batch.requests(MAX_BYTES) is batch.parsed


@pytest.mark.parametrize("signal", Signal)
def test_a_signal_goes_to_every_lane(signal: Signal) -> None:
    control = ControlMessage(signal, 3, 7)
    assert decode(3, control) == [
        (f"{n:03}", ControlMessage(signal, 3, 7, lane=n)) for n in range(3)
    ]


def test_valid_and_other_records_are_counted() -> None:
    counted: list[tuple[int, int]] = []
    step = Decode(LANES, MAX_BYTES, lambda *numbers: counted.append(numbers))
    list(step(fetched(payment(), GARBAGE, None, payment(amount=0))))
    list(step(fetched(payment("pay_2"))))
    assert counted == [(1, 3), (1, 0)]


def test_offsets_may_have_gaps() -> None:
    """Transactions of the producers leave markers, which are no records."""
    batch = fetched(payment("pay_1"), GARBAGE, payment("pay_1"))
    batch.offsets[:] = [10, 12, 19]
    (lane,) = lane_batches(1, batch).values()
    assert lane.offsets.tolist() == [10, 12, 19]
