"""decode: every record goes to one lane, always the same one; every id goes to its segment."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from step_samples import (
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

from dataflow.batches import Forget, Identities, LaneBatch, Restore, Signal, Told
from dataflow.core.segments import lane_of_key
from dataflow.steps.decode import Decode, is_for_memory, lane_name
from schemas.requests import IDENTITY_BYTES, PaymentRequest, key_of

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
            assert batch.requests() == requests

    @given(records, st.lists(records, max_size=10), st.integers(0, 10), st.integers(1, 20))
    def test_a_record_has_its_lane_whatever_comes_with_it(
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

    def test_a_lane_knows_how_far_the_whole_batch_goes(self) -> None:
        batches = lane_batches(LANES, fetched(*[payment(f"pay_{n}") for n in range(50)]))
        assert len(batches) == LANES
        assert {batch.next_offset for batch in batches.values()} == {50}
        assert {batch.read_at for batch in batches.values()} == {READ_AT}

    def test_a_lane_knows_the_segment_and_its_date(self) -> None:
        (batch,) = lane_batches(1, fetched(payment(), segment="s", dated_ms=7)).values()
        assert (batch.segment, batch.dated_ms, batch.recall) == ("s", 7, False)

    def test_a_lane_knows_what_it_has_committed_itself(self) -> None:
        values = [payment(f"pay_{n}") for n in range(50)]
        batches = lane_batches(3, fetched(*values, committed={0: 7, 2: 9}))
        assert {lane: batch.committed for lane, batch in batches.items()} == {0: 7, 1: 0, 2: 9}


class TestRecall:
    """Ids that lanes have committed, ahead of the snapshots: for their index, and nothing else."""

    @given(
        st.lists(records, min_size=1, max_size=30),
        st.dictionaries(st.integers(0, LANES - 1), st.integers(0, 140)),
    )
    def test_each_lane_gets_exactly_what_it_has_committed(
        self, values: list[bytes | None], committed: dict[int, int]
    ) -> None:
        whole = lane_batches(LANES, fetched(*values, first_offset=100))
        recalled = lane_batches(
            LANES, fetched(*values, first_offset=100, committed=committed, recall=True)
        )
        assert {lane: batch.offsets.tolist() for lane, batch in recalled.items()} == {
            lane: below
            for lane, batch in whole.items()
            if (below := [n for n in batch.offsets.tolist() if n < committed.get(lane, 0)])
        }
        for lane, batch in recalled.items():
            part = whole[lane].requests()[: len(batch.values)]
            assert batch.requests() == part
            valid = [each for each in part if isinstance(each, PaymentRequest)]
            assert batch.identities == b"".join(each.identity() for each in valid)

    def test_nothing_is_remembered_or_counted_twice(self) -> None:
        counted: list[tuple[int, int]] = []
        step = Decode(1, MAX_BYTES, lambda *numbers: counted.append(numbers))
        items = list(step(fetched(payment(), GARBAGE, committed={0: 2}, recall=True)))
        assert not any(map(is_for_memory, items))
        assert counted == []


class TestPickle:
    """What an exchange between processes does to a batch."""

    @given(st.lists(records, min_size=1, max_size=20))
    def test_the_requests_are_the_same_on_the_other_side(self, values: list[bytes | None]) -> None:
        batch = one_lane(*values)
        received: LaneBatch = pickle.loads(pickle.dumps(batch))  # noqa: S301
        assert received.requests() == batch.requests()
        assert received.values == batch.values
        assert received.identities == batch.identities
        assert received.valid.tolist() == batch.valid.tolist()
        assert received.offsets.tolist() == batch.offsets.tolist()

    def test_requests_are_parsed_again_and_not_sent(self) -> None:
        batch = one_lane(payment())
        assert b"PaymentRequest" not in pickle.dumps(batch)
        assert batch.parsed

    def test_what_was_parsed_is_kept_inside_the_process(self) -> None:
        batch = one_lane(payment())
        assert batch.requests() is batch.parsed


class TestMemory:
    def test_the_segment_gets_the_ids_of_all_valid_records(self) -> None:
        values = [GARBAGE, payment("pay_1"), None, payment("pay_2"), payment("pay_2", amount=-1)]
        (key, item), *_ = decode(LANES, fetched(*values, first_offset=100, segment="00003/7"))
        assert key == "00003/7"
        assert isinstance(item, Identities)
        assert item.first_offset == 100
        assert item.offsets.tolist() == [101, 103]
        assert item.arrived_ms == READ_AT * 1000
        assert [item.identities[n : n + 16] for n in (0, IDENTITY_BYTES)] == [
            key_of("pay_1"),
            key_of("pay_2"),
        ]

    def test_it_is_told_of_a_batch_without_a_valid_record_too(self) -> None:
        """What it remembers of a later, uncommitted, batch has to go."""
        (_, item), *_ = decode(LANES, fetched(GARBAGE, None, first_offset=100))
        assert isinstance(item, Identities)
        assert (item.first_offset, item.offsets.tolist(), item.identities) == (100, [], b"")

    @pytest.mark.parametrize("item", [Restore(0, "00000/1", 1000, 10, 5), Forget("00000/1")])
    def test_what_concerns_a_segment_goes_to_it(self, item: Restore | Forget) -> None:
        assert decode(LANES, item) == [("00000/1", item)]

    def test_nothing_else_is_for_the_memory(self) -> None:
        items = [*decode(1, fetched(payment())), *decode(1, Restore(0, "s", 0, 0, 0))]
        items += [*decode(1, Forget("s")), *decode(1, Told(Signal.OPEN, 0, 0))]
        for_memory = [type(item[1]) for item in items if is_for_memory(item)]
        assert for_memory == [Identities, Restore, Forget]
        assert len(items) == 5


@pytest.mark.parametrize("signal", Signal)
def test_a_signal_goes_to_every_lane(signal: Signal) -> None:
    told = Told(signal, 3, 7)
    assert decode(3, told) == [("000", told), ("001", told), ("002", told)]


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
    (_, memory), (_, lane) = decode(1, batch)
    assert memory.offsets.tolist() == [10, 19]
    assert lane.offsets.tolist() == [10, 12, 19]
