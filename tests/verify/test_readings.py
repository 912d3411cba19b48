"""Two readings agree, or the place where they do not is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.verify import readings
from dataflow.verify.findings import FindingKind, Findings, RecordPlace
from dataflow.verify.reader import Chunk
from dataflow.verify.readings import Reading, compare

TOPIC = "audit"


def chunk(values: dict[int, bytes | None], partition: int = 0) -> Chunk:
    return Chunk(
        partition,
        list(values),
        [0] * len(values),
        [None] * len(values),
        list(values.values()),
        [None] * len(values),
    )


@pytest.fixture
def made(tmp_path: Path) -> tuple[Reading, Reading]:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    return Reading(tmp_path / "first"), Reading(tmp_path / "second")


def places(
    first: Reading, second: Reading, lows: dict[tuple[str, int], int]
) -> list[RecordPlace | None]:
    findings = Findings()
    compare(first, second, lows, findings)
    assert set(findings.counts) <= {FindingKind.UNSEEN}
    return [example.place for example in findings.examples]


SEEN: dict[int, bytes | None] = {0: b"a", 1: b"b", 4: None, 5: b"", 6: b"e"}


def test_the_same(made: tuple[Reading, Reading]) -> None:
    for reading in made:
        reading.add(TOPIC, chunk(SEEN))
    assert places(*made, {}) == []
    assert made[0].records == 5


@pytest.mark.parametrize("offset", SEEN)
def test_missing_parts_are_listed(made: tuple[Reading, Reading], offset: int) -> None:
    made[0].add(TOPIC, chunk(SEEN))
    made[1].add(TOPIC, chunk({at: value for at, value in SEEN.items() if at != offset}))
    assert places(*made, {}) == [RecordPlace(TOPIC, 0, offset)]


@pytest.mark.parametrize("offset", [0, 1, 4, 5])
def test_records_that_appear_below_the_position(made: tuple[Reading, Reading], offset: int) -> None:
    made[0].add(TOPIC, chunk({at: value for at, value in SEEN.items() if at != offset}))
    made[1].add(TOPIC, chunk(SEEN))
    assert places(*made, {}) == [RecordPlace(TOPIC, 0, offset)]


def test_records_after_the_first_reading(made: tuple[Reading, Reading]) -> None:
    made[0].add(TOPIC, chunk({0: b"a"}))
    made[1].add(TOPIC, chunk(SEEN))
    made[1].add(TOPIC, chunk(SEEN, partition=1))
    assert places(*made, {}) == []


@pytest.mark.parametrize("offset", SEEN)
def test_changes_are_listed(made: tuple[Reading, Reading], offset: int) -> None:
    made[0].add(TOPIC, chunk(SEEN))
    made[1].add(TOPIC, chunk(SEEN | {offset: b"x"}))
    assert places(*made, {}) == [RecordPlace(TOPIC, 0, offset)]


def test_a_value_that_is_empty_is_not_one_that_is_missing(made: tuple[Reading, Reading]) -> None:
    made[0].add(TOPIC, chunk({0: None}))
    made[1].add(TOPIC, chunk({0: b""}))
    assert places(*made, {}) == [RecordPlace(TOPIC, 0, 0)]


def test_records_deleted_by_retention_since(made: tuple[Reading, Reading]) -> None:
    made[0].add(TOPIC, chunk(SEEN))
    made[1].add(TOPIC, chunk({5: b"", 6: b"e"}))
    assert places(*made, {(TOPIC, 0): 5}) == []
    assert places(*made, {(TOPIC, 0): 4}) == [RecordPlace(TOPIC, 0, 4)]


def test_records_that_are_read_twice(made: tuple[Reading, Reading]) -> None:
    """A client that starts again, after an outage, may go back."""
    made[0].add(TOPIC, chunk({0: b"a", 1: b"b"}))
    made[0].add(TOPIC, chunk({0: b"a", 1: b"b", 4: None}))
    made[0].add(TOPIC, chunk({4: None}))
    made[0].add(TOPIC, chunk({5: b"", 6: b"e"}))
    made[1].add(TOPIC, chunk(SEEN))
    assert places(*made, {}) == []


def test_partitions_are_kept_apart(made: tuple[Reading, Reading]) -> None:
    made[0].add(TOPIC, chunk({0: b"a"}))
    made[0].add(TOPIC, chunk({0: b"b"}, partition=1))
    made[1].add(TOPIC, chunk({0: b"a"}))
    assert places(*made, {}) == [RecordPlace(TOPIC, 1, 0)]


@given(
    st.dictionaries(st.integers(0, 60), st.binary(max_size=1)),
    st.dictionaries(st.integers(0, 60), st.binary(max_size=1)),
    st.integers(1, 5),
)
def test_blocks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[int, bytes],
    second: dict[int, bytes],
    block: int,
) -> None:
    scratch = tmp_path_factory.mktemp("readings")
    made = []
    for name, seen in (("first", first), ("second", second)):
        (scratch / name).mkdir()
        made.append(Reading(scratch / name))
        if seen:
            made[-1].add(TOPIC, chunk({at: seen[at] for at in sorted(seen)}))
    findings = Findings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "_BLOCK", block)
        compare(made[0], made[1], {}, findings)
    ended = max(first, default=-1)
    both = first.keys() | second.keys()
    different = {at for at in both if at <= ended and first.get(at) != second.get(at)}
    assert findings.counts[FindingKind.UNSEEN] == len(different)
