"""dedupe: what a lane remembers of each id, where from, and what its log gets."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataflow.core.fenced import Fenced
from dataflow.core.items import ControlMessage, DedupedBatch, LaneBatch, Remembered, Signal
from dataflow.core.lane_log import ENTRY, Entries, entries_in, entries_of
from dataflow.core.lanes import split_identities
from dataflow.core.origins import generation_of, origin, origins, place
from dataflow.dedupe.remembered import RememberedIds
from dataflow.dedupe.tiered import TieredIndex
from dataflow.errors import StartRefusedError
from dataflow.steps.dedupe import Dedupe, Expiry, Log, NoLog
from tests.steps.step_samples import (
    CONFLICT,
    DUPLICATE,
    FIRST,
    GARBAGE,
    MAX_BYTES,
    READ_AT,
    fetched,
    lane_batches,
    one_lane,
    parsed,
    payment,
)
from tests.support.signals import restoring

HOUR = 3_600
WINDOW = 16 * HOUR
"""A bucket spans an hour."""
OPEN = ControlMessage(Signal.OPEN, 0, 0, lane=0)
RESTORE = restoring(lane=0)
NOW = int(READ_AT)


def time(at_s: float, partition: int = 0) -> ControlMessage:
    """Return the signal that a partition's watermark is there."""
    return ControlMessage(Signal.WATERMARK, partition, 0, int(at_s * 1000), lane=0)


def unopened(
    log: Log | None = None, partitions: tuple[int, ...] = (0,), ids: RememberedIds | None = None
) -> Dedupe:
    ids = ids or RememberedIds(WINDOW * 1000, 1_000_000)
    build = Dedupe.builder(
        lambda *_: None, log or NoLog(), ids.open, Expiry(WINDOW * 1000, partitions), MAX_BYTES
    )
    return build(None)


def started(log: Log | None = None, partitions: tuple[int, ...] = (0,)) -> Dedupe:
    step = unopened(log, partitions)
    step.on_batch([OPEN])
    step.on_batch([RESTORE])
    return step


def judge(step: Dedupe, *items: LaneBatch | ControlMessage) -> list[DedupedBatch]:
    """Return what comes out of one epoch, without the signals."""
    out, discard = step.on_batch(list(items))
    assert not discard
    return [item for item in out if isinstance(item, DedupedBatch)]


def verdicts(step: Dedupe, *items: LaneBatch | ControlMessage) -> list[int]:
    return [verdict for result in judge(step, *items) for verdict in result.verdicts]


def logged(*results: DedupedBatch) -> Entries:
    return entries_in(b"".join(result.entries for result in results))


def later(*values: bytes | None, **where: Any) -> LaneBatch:
    """Return records that are others than those of `one_lane`, whatever their content."""
    return one_lane(*values, **{"first_offset": 1_000, **where})


class Past(NoLog):
    """A log with a past; it minds if it is asked twice."""

    def __init__(self, entries: Entries, since_s: int = 0, least: int = 0) -> None:
        self.entries, self.since_s, self.least = entries, since_s, least
        self.asked: list[int] = []
        self.end: dict[int, int] = {}
        self.index: TieredIndex | None = None

    def expect(self, lane: int, index: TieredIndex) -> None:
        self.asked.append(-1 - lane)
        self.index = index

    def restore(self, lane: int, _fenced: Fenced) -> dict[int, int]:
        self.asked.append(lane)
        assert self.index is not None
        self.index.expire(self.since_s)
        self.index.restore(self.entries)
        if len(self.index) < self.least:
            raise StartRefusedError(f"lane {lane} has only {len(self.index)} ids")
        return self.end

    def ends(self) -> dict[int, int]:
        return self.end


class Shared(NoLog):
    """A log that several processes write to, one after the other; it has one partition."""

    def __init__(self) -> None:
        self.records: list[Entries] = []
        self.index: TieredIndex | None = None

    def commit(self, *results: DedupedBatch) -> None:
        self.records.append(logged(*results))

    def expect(self, _lane: int, index: TieredIndex) -> None:
        self.index = index

    def restore(self, _lane: int, _fenced: Fenced) -> dict[int, int]:
        assert self.index is not None
        for record in self.records[self.index.position.get(0, 0) :]:
            self.index.restore(record)
        return self.ends()

    def ends(self) -> dict[int, int]:
        return {0: len(self.records)}


def past(batch: LaneBatch, date_s: int = NOW, since_s: int = 0, least: int = 0) -> Past:
    """Return a log that has the ids of this batch."""
    keys, fingerprints = split_identities(batch.identities)
    where = origins(batch.partition, batch.offsets[batch.valid])
    return Past(entries_of(keys, fingerprints, where, date_s), since_s, least)


class TestVerdicts:
    def test_the_three_verdicts(self) -> None:
        values = [payment(amount=5), payment(amount=5.0), payment(amount=6)]
        assert verdicts(started(), later(*values)) == [FIRST, DUPLICATE, CONFLICT]

    def test_they_hold_across_partitions(self) -> None:
        step = started()
        judge(step, one_lane(payment(), first_offset=40, partition=3))
        (result,) = judge(step, one_lane(payment(), first_offset=7, partition=5))
        assert result.verdicts == [DUPLICATE]
        assert result.first_origins == [origin(3, 40)]

    def test_invalid_records_claim_nothing(self) -> None:
        (result,) = judge(started(), one_lane(payment(amount=-1), GARBAGE, None, payment()))
        assert result.verdicts[3] == FIRST
        assert result.first_origins[3] == origin(0, 3)
        assert len(logged(result)) == 1
        values = [payment(amount=-1), GARBAGE, None, payment()]
        assert [parsed(value) for value in values] == result.parsed

    def test_a_batch_keeps_its_order_and_position(self) -> None:
        (result,) = judge(started(), one_lane(GARBAGE, payment(), first_offset=10, partition=2))
        assert (result.partition, result.offsets, result.next_offset) == (2, [10, 11], 12)
        assert result.times_ms.tolist() == [100, 110]

    def test_all_lanes_together_decide_as_one_would(self) -> None:
        draw = random.Random(1)
        values = [payment(f"pay_{draw.randrange(40)}", draw.randint(1, 2)) for _ in range(200)]
        (whole,) = judge(started(), one_lane(*values))
        found: dict[int, int] = {}
        for batch in lane_batches(8, fetched(*values)).values():
            (part,) = judge(started(), batch)
            found |= dict(zip(part.offsets, part.verdicts, strict=True))
        assert [found[offset] for offset in range(200)] == whole.verdicts
        assert set(whole.verdicts) == {FIRST, DUPLICATE, CONFLICT}


class TestRestore:
    def test_claimed_ids_are_remembered(self) -> None:
        step = started(past(one_lane(payment(), first_offset=5, partition=3)))
        (result,) = judge(step, one_lane(payment(), payment(amount=6), first_offset=9))
        assert result.verdicts == [DUPLICATE, CONFLICT]
        assert result.first_origins == [origin(3, 5)] * 2
        assert len(logged(result)) == 0

    def test_the_log_is_read_once_by_a_lane_that_was_expected(self) -> None:
        log = past(one_lane(payment()))
        step = unopened(log)
        step.on_batch([ControlMessage(Signal.OPEN, p, 0, lane=7) for p in (0, 1)])
        step.on_batch([restoring(p, lane=7) for p in (0, 1)])
        assert log.asked == [-8, 7]

    def test_nothing_is_decided_before_it(self) -> None:
        """Without what was claimed before, a payment might be charged twice."""
        step = unopened()
        step.on_batch([ControlMessage(Signal.OPEN, 0, 0, lane=0)])
        with pytest.raises(RuntimeError, match="has not read its log"):
            step.on_batch([one_lane(payment())])

    def test_a_log_that_has_lost_ids_is_refused(self) -> None:
        batch = one_lane(payment("pay_1"), payment("pay_2"))
        started(past(batch, least=2))
        with pytest.raises(StartRefusedError, match="has only 2 ids"):
            started(past(batch, least=3))

    def test_forgotten_ids_stay_forgotten(self) -> None:
        step = started(past(one_lane(payment()), date_s=NOW - HOUR, since_s=NOW))
        assert verdicts(step, later(payment())) == [FIRST]

    def test_the_snapshot_is_empty(self) -> None:
        """The index is read back from the log; it is never stored itself."""
        step = started()
        judge(step, one_lane(payment()))
        assert step.snapshot() is None  # type: ignore[func-returns-value]


class TestDates:
    """An id is dated by our clock when it is read, whatever its record is stamped."""

    @pytest.mark.parametrize(
        "stamp_ms", [NOW, NOW * 1000 - 10 * 24 * HOUR * 1000, NOW * 10_000, 0], ids=str
    )
    def test_the_timestamp_of_the_record_does_not_count(self, stamp_ms: int) -> None:
        """Seconds instead of milliseconds, ten days old, far in the future, none at all."""
        step = started()
        batch = one_lane(payment())
        batch.times_ms[:] = stamp_ms
        (result,) = judge(step, batch)
        assert logged(result)["date_s"].tolist() == [NOW]
        assert verdicts(step, time(NOW + WINDOW - 1), later(payment())) == [DUPLICATE]

    def test_an_id_is_forgotten_a_window_after_it_was_read(self) -> None:
        step = started()
        judge(step, one_lane(payment()))
        assert verdicts(step, time(NOW + WINDOW + HOUR), later(payment())) == [FIRST]

    def test_nothing_is_forgotten_while_one_partition_is_behind(self) -> None:
        step = started(partitions=(0, 1))
        judge(step, one_lane(payment()))
        late = time(NOW + 3 * WINDOW)
        assert verdicts(step, late, later(payment())) == [DUPLICATE]
        behind = time(NOW + WINDOW - 1, partition=1)
        assert verdicts(step, behind, later(payment())) == [DUPLICATE]

    def test_a_repeat_prolongs_and_is_logged_with_the_claimer(self) -> None:
        step = started()
        judge(step, one_lane(payment(), first_offset=3))
        repeat = one_lane(payment(amount=6), first_offset=9, read_at=READ_AT + HOUR)
        (result,) = judge(step, repeat)
        ((key, fingerprint, at, date_s),) = logged(result).tolist()
        (claim,) = past(one_lane(payment(), first_offset=3)).entries.tolist()
        assert (*key, fingerprint, at) == (*claim[0], *claim[1:3])
        assert date_s == NOW + HOUR
        much_later = one_lane(payment(), read_at=READ_AT + WINDOW + HOUR)
        assert verdicts(step, time(NOW + WINDOW + HOUR), much_later) == [DUPLICATE]

    def test_a_repeat_in_the_same_bucket_costs_nothing(self) -> None:
        step = started()
        judge(step, one_lane(payment()))
        (result,) = judge(step, one_lane(payment(), read_at=READ_AT + 1))
        assert result.entries == b""

    def test_a_clock_that_was_set_back_makes_no_id_older_than_the_watermark(self) -> None:
        step = started()
        judge(step, time(NOW))
        (result,) = judge(step, one_lane(payment(), read_at=READ_AT - 2 * WINDOW))
        assert logged(result)["date_s"].tolist() == [NOW]

    def test_every_id_lives_as_long_as_it_does_without_a_restart(self) -> None:
        """Those of all partitions alike."""
        step = started(partitions=(0, 1))
        results = [
            *judge(step, one_lane(payment("pay_0"), partition=0)),
            *judge(step, one_lane(payment("pay_1"), partition=1, read_at=READ_AT + 2 * HOUR)),
        ]
        again = started(Past(logged(*results)), partitions=(0, 1))
        both = later(payment("pay_0"), payment("pay_1"), read_at=READ_AT + WINDOW)
        times = [time(NOW + WINDOW - 1, partition) for partition in (0, 1)]
        assert verdicts(again, *times, both) == [DUPLICATE, DUPLICATE]
        again = started(Past(logged(*results)), partitions=(0, 1))
        times = [time(NOW + WINDOW + HOUR, partition) for partition in (0, 1)]
        assert verdicts(again, *times, both) == [FIRST, DUPLICATE]


class TestRemembered:
    """The facts about its log that a lane's offsets carry."""

    def test_a_batch_reports_the_number_of_remembered_ids(self) -> None:
        step = started()
        one, other = judge(
            step,
            one_lane(payment("pay_1"), payment("pay_1"), payment("pay_2")),
            one_lane(payment("pay_3"), first_offset=3),
        )
        assert (one.remembered, other.remembered) == (Remembered(2, 0), Remembered(3, 0))

    def test_and_since_when(self) -> None:
        step = started()
        judge(step, one_lane(payment("pay_1")), one_lane(payment("pay_2"), read_at=READ_AT + HOUR))
        out, _ = step.on_batch(
            [time(NOW + WINDOW + HOUR), ControlMessage(Signal.REFRESH_OFFSETS, 0, 9)]
        )
        beat = out[1]
        assert isinstance(beat, ControlMessage)
        assert beat.remembered == Remembered(1, (NOW + HOUR) // HOUR * HOUR)

    def test_they_are_those_the_log_gives_back(self) -> None:
        step = started()
        values = [payment(f"pay_{n}", amount=1 + n % 3) for n in range(30)]
        results = judge(step, one_lane(*values), one_lane(*values[::-1], read_at=READ_AT + HOUR))
        ids, since_s = results[-1].remembered
        again = started(Past(logged(*results), since_s, least=ids))
        assert set(verdicts(again, later(*values))) == {DUPLICATE}
        with pytest.raises(StartRefusedError):
            started(Past(logged(*results[:-1])[1:], since_s, least=ids))


def test_signals_are_passed_on_in_order() -> None:
    control = [ControlMessage(signal, 0, 5, lane=0) for signal in Signal]
    restored = list(Signal).index(Signal.RESTORE) + 1
    control[restored - 1] = RESTORE
    items: list[LaneBatch | ControlMessage] = [
        *control[:restored],
        one_lane(payment()),
        *control[restored:],
    ]
    out, _ = unopened().on_batch(items)
    assert [item.signal for item in out if isinstance(item, ControlMessage)] == list(Signal)
    assert isinstance(out[restored], DedupedBatch)


def test_the_number_of_remembered_ids_is_reported_by_lane() -> None:
    reports: list[tuple[int, int | None]] = []
    ids = RememberedIds(WINDOW * 1000, 1_000_000)
    build = Dedupe.builder(
        lambda *numbers: reports.append(numbers),
        NoLog(),
        ids.open,
        Expiry(WINDOW * 1000, [0]),
        MAX_BYTES,
    )
    one, other = build(None), build(None)
    judge(one, ControlMessage(Signal.OPEN, 0, 0))
    judge(one, RESTORE, one_lane(payment("pay_1"), payment("pay_2"), payment("pay_2")))
    judge(other, OPEN, RESTORE, one_lane(payment("pay_3")))
    judge(one, time(NOW + 2 * WINDOW))
    assert reports == [(0, None), (0, 2), (1, 1), (0, 0)]


def test_a_lane_that_is_never_called_takes_no_room() -> None:
    """The engine also makes the lanes there were under another LANES."""
    ids = RememberedIds(WINDOW * 1000, 1_000_000)
    unopened(ids=ids)
    assert ids.figures.hot_bytes == 0


class TestFiles:
    """Ids go to files only once they are committed."""

    def lane(self, directory: Path, log: Log) -> tuple[Dedupe, RememberedIds]:
        ids = RememberedIds(WINDOW * 1000, 0, directory, "kafka-1", "log-1")
        step = unopened(log, ids=ids)
        step.on_batch([OPEN])
        step.on_batch([replace(RESTORE, epoch=1)])
        self.written(ids)
        return step, ids

    def written(self, ids: RememberedIds) -> int:
        """Return how many ids are in files once the thread has nothing to do."""
        ids._background.submit(lambda: None).result()
        return ids.figures.cold

    def test_the_first_item_of_a_later_epoch_is_the_proof(self, tmp_path: Path) -> None:
        log = Past(np.empty(0, ENTRY))
        step, ids = self.lane(tmp_path, log)
        judge(step, one_lane(payment("pay_1"), epoch=2))
        judge(step, one_lane(payment("pay_2"), epoch=2), time(NOW))
        assert self.written(ids) == 0
        judge(step, replace(time(NOW), epoch=3), one_lane(payment("pay_3"), epoch=3))
        judge(step, one_lane(payment("pay_4"), epoch=3))
        assert self.written(ids) == 2

    def test_files_reach_to_where_the_log_ended_before_the_last_commit(
        self, tmp_path: Path
    ) -> None:
        log = Past(np.empty(0, ENTRY))
        step, ids = self.lane(tmp_path, log)
        reached = []
        for epoch in range(2, 6):
            log.end = {0: 10 * epoch}
            judge(step, one_lane(payment(f"pay_{epoch}"), epoch=epoch))
            self.written(ids)
            reached.append(ids.open(0).position)
        assert reached == [{}, {0: 20}, {0: 30}, {0: 40}]

    def test_a_process_that_was_fenced_states_nothing_of_what_the_next_one_writes(
        self, tmp_path: Path
    ) -> None:
        """It notices when it commits. Until then it sees the log grow by what it never judged."""
        log = Shared()
        fenced, ids = self.lane(tmp_path, log)
        for epoch in (2, 3):
            log.commit(*judge(fenced, one_lane(payment(f"pay_{epoch}"), epoch=epoch)))
            self.written(ids)
        following, its_ids = self.lane(tmp_path, log)
        log.commit(*judge(following, one_lane(payment("pay_4"), epoch=2)))
        self.written(its_ids)  # else the two might write at once, and the fenced one fail
        for epoch in (4, 5):
            judge(fenced, replace(time(NOW), epoch=epoch))
            self.written(ids)
        last, _ = self.lane(tmp_path, log)
        known = later(*(payment(f"pay_{n}") for n in (2, 3, 4)), epoch=2)
        assert verdicts(last, known) == [DUPLICATE] * 3

    def test_entries_in_no_file_are_read_again(self, tmp_path: Path) -> None:
        step, ids = self.lane(tmp_path, Past(np.empty(0, ENTRY)))
        first = judge(step, one_lane(payment("pay_1"), epoch=2))
        judge(step, replace(time(NOW), epoch=3))
        assert self.written(ids) == 1
        judge(step, one_lane(payment("pay_2"), epoch=3))
        again, _ = self.lane(tmp_path, Past(np.empty(0, ENTRY)))
        both = later(payment("pay_1"), payment("pay_2"), epoch=4)
        assert verdicts(again, both) == [DUPLICATE, FIRST]
        assert logged(*first)["origin"].tolist() == [0]


# ---- claims of runs before this one, and payments that wait ----


def test_a_claim_of_an_earlier_run_without_a_decision_is_still_the_first() -> None:
    """Its claim is committed, its outcome is not: it may be charged, under the same key."""
    (claimed,) = judge(started(), one_lane(payment("pay_1"), payment("pay_2"), first_offset=7))
    step = started(Past(logged(claimed)))
    (again,) = judge(step, one_lane(payment("pay_0"), payment("pay_1"), first_offset=6))
    assert again.verdicts == [FIRST, FIRST]
    assert again.claimed_before == {1}
    assert len(logged(again)) == 1, "only the new one is a new claim"


def test_another_copy_does_not_take_a_claim_over() -> None:
    """Whichever comes first after the restart."""
    (claimed,) = judge(started(), one_lane(payment(amount=5), partition=1))
    step = started(Past(logged(claimed)))
    assert verdicts(step, one_lane(payment(amount=9), partition=0)) == [CONFLICT]
    assert verdicts(step, one_lane(payment(amount=5), partition=1)) == [FIRST]


def test_other_content_at_the_place_of_a_claim_is_a_conflict() -> None:
    """The request topic was created again: the claim is of a record that is gone."""
    (claimed,) = judge(started(), one_lane(payment(amount=5), first_offset=7))
    step = started(Past(logged(claimed)))
    (again,) = judge(step, one_lane(payment(amount=9), first_offset=7))
    assert again.verdicts == [CONFLICT]
    assert again.claimed_before == frozenset()


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("one", "one"), FIRST),
        (("one", "another"), DUPLICATE),
        # Not known: a claim without a decision that is taken for a duplicate is a lost payment.
        ((None, "one"), FIRST),
        (("one", None), FIRST),
    ],
)
def test_the_place_of_a_claim_in_a_topic_that_was_created_again_is_a_duplicate(
    ids: tuple[str | None, str | None], expected: int
) -> None:
    before, now = NoLog(), Past(np.empty(0, ENTRY))
    before.generation, now.generation = map(generation_of, ids)
    (claimed,) = judge(started(before), one_lane(payment("pay_1"), first_offset=7, partition=3))
    now.entries = logged(claimed)
    step = started(now)
    (again,) = judge(step, one_lane(payment("pay_1"), first_offset=7, partition=3))
    assert again.verdicts == [expected]
    assert list(map(place, again.first_origins)) == [(3, 7)]


class TestWaiting:
    """An id whose payment waits for the gateway is not forgotten."""

    def step(self, held: dict[bytes, int]) -> Dedupe:
        ids = RememberedIds(WINDOW * 1000, 1_000_000)
        expiry = Expiry(WINDOW * 1000, (0,), lambda _lane: held)
        step = Dedupe.builder(lambda *_: None, NoLog(), ids.open, expiry, MAX_BYTES)(None)
        judge(step, OPEN, RESTORE)
        return step

    def test_it_outlives_the_window_for_as_long_as_it_waits(self) -> None:
        held: dict[bytes, int] = {}
        step = self.step(held)
        batch = one_lane(payment("waits"), payment("other"), first_offset=3)
        judge(step, batch)
        held[batch.identities[:24]] = origin(0, 3)
        for hours in range(1, 100):
            judge(step, time(NOW + hours * HOUR))
        repeats = one_lane(
            payment("waits"), payment("other"), first_offset=9, read_at=NOW + 100 * HOUR
        )
        (found,) = judge(step, repeats)
        assert found.verdicts == [DUPLICATE, FIRST]
        assert found.first_origins[0] == origin(0, 3)
        held.clear()
        judge(step, time(NOW + 200 * HOUR))
        after = one_lane(payment("waits"), first_offset=20, read_at=NOW + 200 * HOUR)
        assert verdicts(step, after) == [FIRST]

    def test_its_log_entries_keep_it_for_the_next_run_too(self) -> None:
        held: dict[bytes, int] = {}
        step = self.step(held)
        batch = one_lane(payment("waits"), first_offset=3)
        (claim,) = judge(step, batch)
        held[batch.identities] = origin(0, 3)
        out, _ = step.on_batch([time(NOW + 3 * HOUR), time(NOW + 3 * HOUR + 1)])
        prolonged = [item.entries for item in out if isinstance(item, ControlMessage)]
        assert [len(entries_in(each)) for each in prolonged] == [1, 0]
        entry = entries_in(prolonged[0])[0]
        assert entry["date_s"] == NOW + 3 * HOUR
        assert entry["key"].tobytes() == logged(claim)[0]["key"].tobytes()

    def test_a_signal_that_may_not_reach_the_log_prolongs_nothing(self) -> None:
        """An id that is prolonged in memory only is forgotten by a restart."""
        held: dict[bytes, int] = {}
        step = self.step(held)
        batch = one_lane(payment("waits"), first_offset=3)
        judge(step, batch, time(NOW + 3 * HOUR))
        held[batch.identities] = origin(0, 3)
        wake = replace(time(NOW + 3 * HOUR), signal=Signal.WAKE)
        out, _ = step.on_batch([wake, time(NOW + 3 * HOUR)])
        prolonged = [item.entries for item in out if isinstance(item, ControlMessage)]
        assert [len(entries_in(each)) for each in prolonged] == [0, 1]

    def test_while_nothing_waits_a_watermark_costs_nothing(self) -> None:
        step = self.step({})
        judge(step, one_lane(payment()))
        out, _ = step.on_batch([time(NOW + 3 * HOUR)])
        assert [item.entries for item in out if isinstance(item, ControlMessage)] == [b""]
