"""The checker against the plain rules, which hold everything in memory, in any cluster."""

import json
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from dataflow.verify.checker import Report
from dataflow.verify.findings import FindingKind
from schemas.parsing import parse
from tests.support.invariants import claims_in, claims_match, find
from tests.verify.fake_cluster import (
    AUDIT,
    FAILED,
    LANE_LOG,
    PROCESSED,
    REQUESTED,
    START_MS,
    FakeCluster,
    Record,
    check,
    payment,
)

values = st.one_of(
    st.builds(
        payment,
        st.sampled_from(["a", "b", "c", "é"]),
        st.sampled_from(["1", "2.50", "0"]),
        st.sampled_from(["USD", "JPY", "KWD"]),
        userId=st.sampled_from(["u", "poor"]),
    ),
    st.sampled_from([b"", b"{", b"[]", b"\xff", b'{"paymentId":"a"}', None]),
)
sent = st.lists(st.tuples(st.integers(0, 1), values), min_size=1, max_size=25)


NOWHERE = {"topic": REQUESTED, "partition": 0, "offset": 10_000}
INVALID = {"topic": REQUESTED, "partition": 0, "offset": 2 * FakeCluster().step}


def world_of(requests: list[tuple[int, bytes | None]]) -> FakeCluster:
    cluster = FakeCluster()
    for n, (partition, value) in enumerate(requests):
        cluster.send(partition, value, START_MS + n)
    return cluster


def plain_problems(cluster: FakeCluster) -> list[str]:
    inputs = {
        (partition, record.offset): record.value
        for partition, log in cluster.logs[REQUESTED].items()
        for record in log
    }
    outcomes = list(map(event, [*cluster.records(PROCESSED), *cluster.records(FAILED)]))
    claims = claims_in((record.headers, record.value) for record in cluster.records(LANE_LOG))
    return [
        *find(inputs, outcomes, list(map(event, cluster.records(AUDIT)))).problems,
        *claims_match(inputs, outcomes, claims),
    ]


def event(record: Record) -> dict[str, Any]:
    parsed = json.loads(record.value or b"", parse_float=Decimal, parse_int=Decimal)
    return {**parsed, "key": record.key}


def checked(cluster: FakeCluster) -> Report:
    with tempfile.TemporaryDirectory() as scratch:
        return check(cluster, Path(scratch), part_records=1000)


@given(sent)
def test_valid_topics_pass_both(requests: list[tuple[int, bytes | None]]) -> None:
    cluster = world_of(requests)
    assert plain_problems(cluster) == []
    report = checked(cluster)
    assert report.findings.examples == []
    assert report.totals.requests == len(requests)


def drop(cluster: FakeCluster, topic: str, record: Record, _other: Record) -> None:
    for log in cluster.logs[topic].values():
        if record in log:
            log.remove(record)


def repeat(cluster: FakeCluster, topic: str, record: Record, _other: Record) -> None:
    cluster.repeat(topic, record)


def take_the_amount(_world: FakeCluster, _topic: str, record: Record, other: Record) -> None:
    if "amount" in record.event and "amount" in other.event:
        record.change(amount=json.loads(other.value or b"")["amount"])


def take_the_id(_world: FakeCluster, _topic: str, record: Record, other: Record) -> None:
    if record.event["paymentId"] and other.event["paymentId"]:
        record.change(paymentId=other.event["paymentId"])


def take_the_first(_world: FakeCluster, _topic: str, record: Record, other: Record) -> None:
    if "firstSource" in record.event:
        record.change(firstSource=json.loads(other.value or b"")["source"])


def take_the_key(_world: FakeCluster, _topic: str, record: Record, other: Record) -> None:
    record.key = other.key


def take_everything(_world: FakeCluster, _topic: str, record: Record, other: Record) -> None:
    record.key, record.value = other.key, other.value


def move_the_source(_world: FakeCluster, _topic: str, record: Record, _other: Record) -> None:
    record.change(source=NOWHERE)


def take_the_source(_world: FakeCluster, _topic: str, record: Record, other: Record) -> None:
    record.change(source=json.loads(other.value or b"")["source"])


def take_the_type(_world: FakeCluster, _topic: str, record: Record, other: Record) -> None:
    record.change(eventType=other.event["eventType"])


BREAKS: list[Callable[[FakeCluster, str, Record, Record], None]] = [
    drop,
    repeat,
    take_the_amount,
    take_the_id,
    take_the_first,
    take_the_key,
    take_everything,
    move_the_source,
    take_the_source,
    take_the_type,
]


@given(sent, st.data())
def test_the_checker_finds_all_that_the_plain_rules_find(
    requests: list[tuple[int, bytes | None]], data: st.DataObject
) -> None:
    cluster = world_of(requests)
    for break_it in data.draw(st.lists(st.sampled_from(BREAKS), min_size=1, max_size=3)):
        topic = data.draw(st.sampled_from([PROCESSED, FAILED, AUDIT]))
        events = list(cluster.records(topic))
        if events:
            record, other = data.draw(st.sampled_from(events)), data.draw(st.sampled_from(events))
            break_it(cluster, topic, record, other)
            note(f"{break_it.__name__} {topic} {record} {other}")
    problems = plain_problems(cluster)
    report = checked(cluster)
    note("\n".join(map(str, [*problems, *report.findings.examples])))
    if problems:
        assert not report.holds
    if any(problem.startswith("wrong content") for problem in problems):
        assert FindingKind.CONTENT in report.findings.counts


@pytest.mark.parametrize(
    ("number", "altered"),
    [
        (1, {"source": NOWHERE}),
        (1, {"firstSource": NOWHERE}),
        (1, {"firstSource": None}),
        (1, {"source": INVALID}),
        (1, {"firstSource": INVALID}),
        (1, {"eventType": "payment.conflict"}),
        (0, {"source": NOWHERE}),
        (0, {"source": INVALID}),
        (0, {"eventType": "payment.duplicate"}),
        (2, {"source": NOWHERE}),
        (2, {"eventType": "payment.duplicate"}),
    ],
)
def test_both_see_an_audit_event_that_was_altered(number: int, altered: dict[str, Any]) -> None:
    """Of a payment, its duplicate, and an invalid record with its id."""
    cluster = world_of([(0, payment("a")), (0, payment("a")), (0, b'{"paymentId":"a"}')])
    list(cluster.records(AUDIT))[number].change(**altered)
    assert plain_problems(cluster)
    assert not checked(cluster).holds


def claim_again(cluster: FakeCluster, value: bytes, offset: int) -> None:
    cluster.claim(parse(value, 10**6), 0, offset, START_MS)


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (lambda cluster: cluster.forget(0, 0), FindingKind.UNCLAIMED),
        (lambda cluster: claim_again(cluster, payment("b"), 0), FindingKind.CLAIM),
        (lambda cluster: claim_again(cluster, payment("a", "9"), 0), FindingKind.CLAIM),
        (lambda cluster: claim_again(cluster, payment("a"), cluster.step), FindingKind.CLAIM),
        (lambda cluster: claim_again(cluster, payment("a"), 10_000), FindingKind.CLAIM),
        (lambda cluster: cluster.remove(PROCESSED, 0, 0).remove(AUDIT, 0, 0), FindingKind.CLAIM),
    ],
    ids=["forgotten", "id", "content", "of its copy", "of no record", "without an outcome"],
)
def test_both_see_a_claim_that_no_outcome_belongs_to(
    break_it: Callable[[FakeCluster], object], kind: FindingKind
) -> None:
    """Of a payment, and its duplicate."""
    cluster = world_of([(0, payment("a")), (0, payment("a"))])
    break_it(cluster)
    problems = plain_problems(cluster)
    assert [problem for problem in problems if "claimed" in problem]
    assert kind in checked(cluster).findings.counts


def test_both_see_an_outcome_of_another_record() -> None:
    """An invalid record's event has neither amount nor currency."""
    cluster = world_of([(0, payment("a")), (0, b'{"paymentId":"a"}')])
    cluster.logs[FAILED] = {0: list(cluster.records(FAILED)), 1: []}
    cluster.logs[FAILED][0][0].change(source={"topic": REQUESTED, "partition": 0, "offset": 0})
    assert plain_problems(cluster)
    assert FindingKind.CONTENT in checked(cluster).findings.counts


@given(sent, st.data())
def test_records_that_are_lost_are_counted(
    requests: list[tuple[int, bytes | None]], data: st.DataObject
) -> None:
    cluster = world_of(requests)
    audited = [
        (record.event["source"]["partition"], record.event["source"]["offset"])
        for record in cluster.records(AUDIT)
        if record.event["eventType"] in {"payment.duplicate", "payment.conflict"}
        or record.event["paymentId"] is None
    ]
    lost = set(data.draw(st.lists(st.sampled_from(audited), unique=True))) if audited else set()
    for partition, offset in lost:
        for topic in (FAILED, AUDIT):
            cluster.remove(topic, int(partition), int(offset))
    assert checked(cluster).findings.counts[FindingKind.LOST] == len(lost)
