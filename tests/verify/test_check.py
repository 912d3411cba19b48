"""The checker sees nothing in a world without a fault, and each fault in one that has it."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from dataflow.core.lane_log import headers
from dataflow.verify.findings import EXAMPLES, FindingKind, RecordPlace
from dataflow.verify.reader import LanePosition
from schemas.parsing import parse
from tests.verify.fake_cluster import (
    AUDIT,
    FAILED,
    HOUR_MS,
    LANE_LOG,
    LANES,
    PENDING,
    PROCESSED,
    REQUESTED,
    START_MS,
    FakeCluster,
    Record,
    at,
    check,
    kinds,
    lane_of,
    payment,
    tells_of,
)

SECOND_MS = 1000


@pytest.fixture
def cluster() -> FakeCluster:
    """Return all kinds of records: by partition and offset (of step 3), see the comments."""
    made = FakeCluster()
    made.send(0, payment("one"))  # 0/0
    made.send(0, payment("two", "0.500", "KWD", metadata={"a": [1, None]}))  # 0/3
    made.send(1, payment("one"), START_MS + 1)  # 1/0 duplicate of 0/0
    made.send(1, payment("one", "8"), START_MS + 2)  # 1/3 conflict with 0/0
    made.send(0, payment("poor", userId="poor"), START_MS + 3)  # 0/6 declined
    made.send(0, b"\xff", START_MS + 4)  # 0/9 malformed
    made.send(0, None, START_MS + 5)  # 0/12 a tombstone
    made.send(1, payment("bad", "-1"), START_MS + 6)  # 1/6 invalid
    made.send(1, payment("bad", "1"), START_MS + 7)  # 1/9 corrected, and processed
    made.send(0, payment("one"), START_MS + 8)  # 0/15 duplicate of 0/0
    made.send(1, payment("three", "1e3", "JPY"), START_MS + 9)  # 1/12
    return made


def test_a_flow_without_a_fault(cluster: FakeCluster, tmp_path: Path) -> None:
    report = check(cluster, tmp_path)
    assert report.findings.examples == []
    assert report.holds
    assert report.notes == []
    totals = report.totals
    assert (totals.requests, totals.valid, totals.payments) == (11, 8, 5)
    assert (totals.outcomes, totals.audits) == (8, 11)
    assert (totals.duplicates, totals.conflicts, totals.waiting, totals.unknown) == (2, 1, 0, 0)
    assert [(a.currency, a.requested, a.processed, a.failed) for a in report.accounts] == [
        ("JPY", 1000, 1000, 0),
        ("KWD", Decimal("0.500"), Decimal("0.500"), 0),
        ("USD", Decimal("20.98"), Decimal("10.99"), Decimal("9.99")),
    ]
    assert list(tmp_path.iterdir()) == [], "temporary files are left"


# ---- one fault each ----


def other_time(cluster: FakeCluster) -> None:
    cluster.find(AUDIT, 0, 0).change(occurredAt=at(START_MS + SECOND_MS))


def swapped(cluster: FakeCluster) -> None:
    """Swap two records of one payment: their events change places."""
    first, second = cluster.find(AUDIT, 1, 0), cluster.find(AUDIT, 1, 3)
    first.value, second.value = second.value, first.value


def park(
    cluster: FakeCluster, payment_id: str, partition: int, offset: int, **request: str
) -> None:
    """Write an entry of the pending topic."""
    cluster.park(
        payment(payment_id, **(request or {"amount": "1e3", "currency": "JPY"})), partition, offset
    )


def waiting(cluster: FakeCluster) -> FakeCluster:
    """Take the outcome of a payment away: it is claimed, and its position is committed."""
    for topic in (PROCESSED, AUDIT):
        cluster.remove(topic, 1, 12)
    return cluster


def decided_beside(cluster: FakeCluster) -> None:
    """Charge a copy of a payment that still waits."""
    park(waiting(cluster), "three", 1, 12)
    del cluster.claims["three"]
    cluster.send(1, payment("three", "1e3", "JPY"), START_MS + 2 * HOUR_MS)


def claimed_by_the_later(cluster: FakeCluster) -> None:
    """Charge the later one of two copies on one partition."""
    cluster.send(0, payment("late"), START_MS + 20)
    cluster.send(0, payment("late"), START_MS + 21)
    for topic in (PROCESSED, AUDIT):
        for record in cluster.records(topic):
            if record.key == b"late":
                record.value = (record.value or b"").replace(b":18}", b":@}")
                record.value = record.value.replace(b":21}", b":18}").replace(b":@}", b":21}")
                record.value = record.value.replace(b"000000000012", b"@")
                record.value = record.value.replace(b"000000000015", b"000000000012")
                record.value = record.value.replace(b"@", b"000000000015")


def charged_again(cluster: FakeCluster) -> None:
    del cluster.claims["one"]
    cluster.send(1, payment("one"), START_MS + HOUR_MS)


def claim(
    cluster: FakeCluster, payment_id: str, partition: int, offset: int, **request: str
) -> None:
    cluster.claim(parse(payment(payment_id, **request), 10**6), partition, offset, START_MS)


def out_of_money(cluster: FakeCluster) -> None:
    cluster.find(PROCESSED, 0, 0).change(amount=9.98)


FAULTS: dict[str, tuple[FindingKind, Callable[[FakeCluster], object]]] = {
    "nothing said of a record": (
        FindingKind.LOST,
        lambda w: [w.remove(topic, 0, 0) for topic in (PROCESSED, AUDIT)],
    ),
    "nothing said of a repeat": (FindingKind.LOST, lambda w: w.remove(AUDIT, 1, 0)),
    "nothing said of an invalid record": (
        FindingKind.LOST,
        lambda w: [w.remove(topic, 0, 9) for topic in (FAILED, AUDIT)],
    ),
    "nobody was charged": (
        FindingKind.LOST,
        lambda w: [
            w.remove(PROCESSED, 0, 0),
            w.find(AUDIT, 0, 0).change(
                eventType="payment.duplicate",
                gatewayReference=None,
                firstSource=w.find(AUDIT, 0, 0).event["source"] | {"partition": 0, "offset": 15},
            ),
        ],
    ),
    "two audit events": (FindingKind.DOUBLED, lambda w: w.repeat(AUDIT, w.find(AUDIT, 1, 3))),
    "two outcomes": (FindingKind.DOUBLED, lambda w: w.repeat(PROCESSED, w.find(PROCESSED, 0, 0))),
    "two payments": (FindingKind.DOUBLED, charged_again),
    "no audit event of an outcome": (FindingKind.TORN, lambda w: w.remove(AUDIT, 0, 3)),
    "no outcome": (FindingKind.TORN, lambda w: w.remove(PROCESSED, 0, 3)),
    "no outcome of an invalid record": (FindingKind.TORN, lambda w: w.remove(FAILED, 0, 12)),
    "another time": (FindingKind.TORN, other_time),
    "another reference": (
        FindingKind.TORN,
        lambda w: w.find(AUDIT, 0, 0).change(gatewayReference="another"),
    ),
    "another error": (
        FindingKind.TORN,
        lambda w: w.find(AUDIT, 0, 6).change(
            error={"code": "declined", "message": "not enough", "retryable": True}
        ),
    ),
    "another code of the provider": (
        FindingKind.TORN,
        lambda w: w.find(AUDIT, 0, 6).change(
            error={
                "code": "insufficient_funds",
                "message": "not enough",
                "retryable": True,
                "providerCode": "51",
            }
        ),
    ),
    "another end": (
        FindingKind.TORN,
        lambda w: w.find(AUDIT, 0, 0).change(eventType="payment.failed"),
    ),
    "no such record": (
        FindingKind.PHANTOM,
        lambda w: w.append(
            AUDIT, 0, 0, b"bad", (w.find(AUDIT, 1, 6).value or b"").replace(b":6}", b":7}")
        ),
    ),
    "another topic's record": (
        FindingKind.PHANTOM,
        lambda w: w.append(
            PROCESSED,
            0,
            0,
            b"one",
            (w.find(PROCESSED, 0, 0).value or b"").replace(b'"requested"', b'"elsewhere"'),
        ),
    ),
    "a partition there never was": (
        FindingKind.PHANTOM,
        lambda w: w.append(
            AUDIT,
            0,
            0,
            b"bad",
            (w.find(AUDIT, 1, 6).value or b"").replace(b'"partition":1', b'"partition":77'),
        ),
    ),
    "no event": (FindingKind.PHANTOM, lambda w: w.append(FAILED, 0, 0, None, b"{}")),
    "nothing at all": (FindingKind.PHANTOM, lambda w: w.append(AUDIT, 0, 0, None, None)),
    "another amount": (FindingKind.CONTENT, out_of_money),
    "an amount as text": (
        FindingKind.CONTENT,
        lambda w: w.find(PROCESSED, 0, 0).change(amount="9.99"),
    ),
    "another user": (FindingKind.CONTENT, lambda w: w.find(FAILED, 0, 6).change(userId="rich")),
    "another currency": (
        FindingKind.CONTENT,
        lambda w: w.find(PROCESSED, 0, 0).change(currency="EUR"),
    ),
    "another method": (
        FindingKind.CONTENT,
        lambda w: w.find(PROCESSED, 0, 0).change(paymentMethod="cash"),
    ),
    "other metadata": (
        FindingKind.CONTENT,
        lambda w: w.find(PROCESSED, 0, 3).change(metadata={"a": []}),
    ),
    "metadata left out": (
        FindingKind.CONTENT,
        lambda w: w.find(PROCESSED, 0, 3).change(metadata=None),
    ),
    "another original": (
        FindingKind.CONTENT,
        lambda w: w.find(FAILED, 0, 9).change(original="/g=="),
    ),
    "another code": (
        FindingKind.CONTENT,
        lambda w: [
            w.find(topic, 1, 6).change(
                error={"code": "declined", "message": "m", "retryable": False}
            )
            for topic in (FAILED, AUDIT)
        ],
    ),
    "another name": (FindingKind.CONTENT, lambda w: w.find(AUDIT, 0, 3).change(paymentId="three")),
    "an eventId of another record": (
        FindingKind.CONTENT,
        lambda w: w.find(PROCESSED, 0, 0).change(eventId=w.find(AUDIT, 1, 0).event["eventId"]),
    ),
    "another key": (FindingKind.CONTENT, lambda w: setattr(w.find(AUDIT, 0, 0), "key", b"two")),
    "no key": (FindingKind.CONTENT, lambda w: setattr(w.find(PROCESSED, 0, 0), "key", None)),
    "another topic's event": (
        FindingKind.CONTENT,
        lambda w: w.find(PROCESSED, 0, 0).change(eventType="payment.failed"),
    ),
    "no time": (
        FindingKind.CONTENT,
        lambda w: [
            w.find(PROCESSED, 0, 0).change(processedAt="soon"),
            w.find(AUDIT, 0, 0).change(occurredAt="soon"),
        ],
    ),
    "no type": (
        FindingKind.CONTENT,
        lambda w: w.find(AUDIT, 1, 0).change(eventType="payment.refunded"),
    ),
    "a duplicate of other content": (
        FindingKind.VERDICT,
        lambda w: w.find(AUDIT, 1, 3).change(eventType="payment.duplicate"),
    ),
    "a conflict of the same": (
        FindingKind.VERDICT,
        lambda w: w.find(AUDIT, 1, 0).change(eventType="payment.conflict"),
    ),
    "another payment's first": (
        FindingKind.VERDICT,
        lambda w: w.find(AUDIT, 1, 0).change(
            firstSource={"topic": REQUESTED, "partition": 0, "offset": 3}
        ),
    ),
    "a repeat for a first": (
        FindingKind.VERDICT,
        lambda w: w.find(AUDIT, 0, 15).change(
            firstSource={"topic": REQUESTED, "partition": 1, "offset": 0}
        ),
    ),
    "an invalid record for a first": (
        FindingKind.VERDICT,
        lambda w: [
            w.send(1, payment("bad", "1"), START_MS + 30),
            w.find(AUDIT, 1, 15).change(
                firstSource={"topic": REQUESTED, "partition": 1, "offset": 6}
            ),
        ],
    ),
    "no first": (FindingKind.VERDICT, lambda w: w.find(AUDIT, 1, 0).change(firstSource=None)),
    "a first of no topic of ours": (
        FindingKind.VERDICT,
        lambda w: w.find(AUDIT, 1, 0).change(
            firstSource={"topic": "elsewhere", "partition": 0, "offset": 0}
        ),
    ),
    "a first of what was charged": (
        FindingKind.VERDICT,
        lambda w: w.find(AUDIT, 0, 0).change(
            firstSource={"topic": REQUESTED, "partition": 0, "offset": 0}
        ),
    ),
    "an invalid record that is a duplicate": (
        FindingKind.VERDICT,
        lambda w: [
            w.remove(FAILED, 1, 6),
            w.find(AUDIT, 1, 6).change(
                eventType="payment.duplicate",
                error=None,
                firstSource={"topic": REQUESTED, "partition": 1, "offset": 9},
            ),
        ],
    ),
    "no claim": (FindingKind.UNCLAIMED, lambda w: w.forget(0, 3)),
    "no claim of what was declined": (FindingKind.UNCLAIMED, lambda w: w.forget(0, 6)),
    "no claim of what is repeated": (FindingKind.UNCLAIMED, lambda w: w.forget(0, 0)),
    "a claim of a payment that nobody made": (
        FindingKind.CLAIM,
        lambda w: claim(w, "nobody", 0, 3),
    ),
    "a claim for a record that is not there": (
        FindingKind.CLAIM,
        lambda w: claim(w, "three", 1, 99),
    ),
    "a claim for a partition that is not there": (
        FindingKind.CLAIM,
        lambda w: claim(w, "three", 7, 0),
    ),
    "a claim for a repeat": (FindingKind.CLAIM, lambda w: claim(w, "one", 1, 0)),
    "a claim for an invalid record": (FindingKind.CLAIM, lambda w: claim(w, "bad", 1, 6)),
    "a claim of other content": (FindingKind.CLAIM, lambda w: claim(w, "one", 0, 0, amount="8")),
    "a claim that cannot be read": (
        FindingKind.CLAIM,
        lambda w: w.logs[LANE_LOG][0].append(Record(999, START_MS, None, b"?", headers(0, 4))),
    ),
    "events that changed places": (FindingKind.ORDER, swapped),
    "a decided payment that waits": (FindingKind.DOUBLED, lambda w: park(w, "three", 1, 12)),
    "a payment that waits with other content": (
        FindingKind.CONTENT,
        lambda w: park(waiting(w), "three", 1, 12, amount="1e4"),
    ),
    "a payment that waits, and does not exist": (
        FindingKind.PHANTOM,
        lambda w: park(w, "three", 1, 9_999),
    ),
    "an outcome beside an earlier request that waits": (FindingKind.DOUBLED, decided_beside),
    "the later copy was charged": (FindingKind.ORDER, claimed_by_the_later),
    "money": (FindingKind.MONEY, out_of_money),
    "an open transaction": (FindingKind.OPEN, lambda w: w.hidden.update({(PROCESSED, 1): 0})),
    "a group that is behind": (FindingKind.POSITION, lambda w: w.group.update({0: 15})),
    "a group that is not there": (FindingKind.POSITION, lambda w: w.group.clear()),
    "a group that is ahead": (FindingKind.POSITION, lambda w: w.group.update({0: 99})),
    "a lane that is behind": (
        FindingKind.POSITION,
        lambda w: w.lanes[lane_of("three")].update({1: LanePosition(12, LANES)}),
    ),
    "a lane that is not there": (FindingKind.POSITION, lambda w: w.lanes[lane_of("three")].clear()),
    "a lane that is ahead": (
        FindingKind.POSITION,
        lambda w: w.lanes[0].update({0: LanePosition(99, LANES)}),
    ),
    "no lanes": (FindingKind.POSITION, lambda w: w.lanes.clear()),
    "a topic that is compacted": (FindingKind.COMPACTED, lambda w: w.compacted.append(AUDIT)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, cluster: FakeCluster, tmp_path: Path) -> None:
    kind, break_it = FAULTS[fault]
    break_it(cluster)
    report = check(cluster, tmp_path)
    assert kind in kinds(report), report.findings.examples
    assert not report.holds


ALONE = {
    "nothing said of a repeat",
    "two audit events",
    "two payments",
    "another time",
    "another reference",
    "no event",
    "other metadata",
    "another key",
    "a duplicate of other content",
    "another payment's first",
    "a repeat for a first",
    "no claim",
    "no claim of what was declined",
    "no claim of what is repeated",
    "a claim of a payment that nobody made",
    "a claim for a record that is not there",
    "a claim for a partition that is not there",
    "a claim for a repeat",
    "a claim for an invalid record",
    "a claim of other content",
    "a claim that cannot be read",
    "events that changed places",
    "a group that is behind",
    "a lane that is behind",
}


@pytest.mark.parametrize("fault", sorted(ALONE))
def test_a_single_fault_is_one_finding(fault: str, cluster: FakeCluster, tmp_path: Path) -> None:
    kind, break_it = FAULTS[fault]
    break_it(cluster)
    report = check(cluster, tmp_path)
    assert dict(report.findings.counts) == {kind: 1}, report.findings.examples


def test_every_kind_has_a_fault_here() -> None:
    elsewhere = {FindingKind.UNSEEN, FindingKind.EMPTY}
    assert {kind for kind, _ in FAULTS.values()} == set(FindingKind) - elsewhere


def test_nothing_to_check_is_no_proof(tmp_path: Path) -> None:
    assert kinds(check(FakeCluster(), tmp_path)) == {FindingKind.EMPTY}


def test_an_example_shows_where_to_look(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.find(PROCESSED, 0, 3).change(userId="another")
    [example] = check(cluster, tmp_path).findings.examples
    assert example.kind is FindingKind.CONTENT
    assert isinstance(example.place, RecordPlace)
    record = cluster.logs[example.place.topic][example.place.partition]
    [found] = [each for each in record if each.offset == example.place.offset]
    assert tells_of(found, 0, 3)


def test_only_the_first_few_are_shown(cluster: FakeCluster, tmp_path: Path) -> None:
    for n in range(20):
        cluster.send(0, payment(f"gone-{n}"), START_MS + 50 + n)
        for topic in (PROCESSED, AUDIT):
            cluster.remove(topic, 0, 18 + 3 * n)
        cluster.forget(0, 18 + 3 * n)
    findings = check(cluster, tmp_path).findings
    assert findings.counts == {FindingKind.LOST: 20}
    assert len(findings.examples) == EXAMPLES


# ---- the window ----


@pytest.mark.parametrize(
    ("gap_ms", "expected"),
    [
        (HOUR_MS - SECOND_MS, {FindingKind.DOUBLED}),
        (HOUR_MS, {FindingKind.DOUBLED}),
        (HOUR_MS + 1, set()),
    ],
)
def test_an_id_may_be_charged_again_after_the_window(
    gap_ms: int, expected: set[FindingKind], tmp_path: Path
) -> None:
    cluster = FakeCluster()
    cluster.send(0, payment("one"))
    cluster.claims.clear()
    cluster.send(0, payment("one"), START_MS + gap_ms)
    assert kinds(check(cluster, tmp_path)) == expected


def test_a_repeat_prolongs_the_memory(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.send(0, payment("one"))
    cluster.send(1, payment("one"), START_MS + HOUR_MS // 2)
    cluster.claims.clear()
    cluster.send(0, payment("one"), START_MS + HOUR_MS + SECOND_MS)
    assert kinds(check(cluster, tmp_path)) == {FindingKind.DOUBLED}


def test_a_late_copy_is_judged_by_what_came_before_it(tmp_path: Path) -> None:
    """Its partition had come beyond the window: then the id may be forgotten."""
    cluster = FakeCluster()
    cluster.send(0, payment("one"))
    cluster.send(0, payment("two"), START_MS + 2 * HOUR_MS)
    cluster.claims.clear()
    cluster.send(0, payment("one"), START_MS + 2 * HOUR_MS)
    cluster.logs[REQUESTED][0][-1].time_ms = START_MS + 1
    assert kinds(check(cluster, tmp_path)) == set()


def test_a_stamp_from_the_future_is_not_believed(tmp_path: Path) -> None:
    """Nothing is forgotten earlier, nor remembered for longer, because of it."""
    cluster = FakeCluster()
    cluster.send(0, payment("one"))
    cluster.logs[REQUESTED][0][-1].time_ms = START_MS + 1000 * HOUR_MS
    cluster.claims.clear()
    cluster.send(0, payment("one"), START_MS + 3 * HOUR_MS)
    assert kinds(check(cluster, tmp_path)) == set()
    cluster.claims.clear()
    cluster.send(0, payment("one"), START_MS + 3 * HOUR_MS + 1)
    assert kinds(check(cluster, tmp_path)) == {FindingKind.DOUBLED}


def test_an_id_is_seen_when_it_is_read_however_old_its_stamp_is(tmp_path: Path) -> None:
    """A backlog of ten days, and a copy of its last record that comes five seconds later."""
    cluster = FakeCluster()
    cluster.send(0, payment("one"))
    cluster.logs[REQUESTED][0][-1].time_ms = START_MS - 240 * HOUR_MS
    cluster.claims.clear()
    cluster.send(1, payment("one"), START_MS + 5 * SECOND_MS)
    assert kinds(check(cluster, tmp_path)) == {FindingKind.DOUBLED}


@pytest.mark.parametrize(
    ("gap_ms", "expected"), [(5 * SECOND_MS, {FindingKind.DOUBLED}), (2 * HOUR_MS, set())]
)
def test_an_impossible_timestamp_is_ignored(
    gap_ms: int, expected: set[FindingKind], tmp_path: Path
) -> None:
    """As of a sender that writes seconds, for what is in milliseconds."""
    cluster = FakeCluster()
    for time_ms in (START_MS, START_MS + gap_ms):
        cluster.claims.clear()
        cluster.send(0, payment("one"), time_ms)
        cluster.logs[REQUESTED][0][-1].time_ms = time_ms // 1000
    assert kinds(check(cluster, tmp_path)) == expected


def test_records_without_a_stamp_have_the_time_they_were_decided(tmp_path: Path) -> None:
    cluster = FakeCluster()
    for time_ms in (START_MS, START_MS + 2 * HOUR_MS, START_MS + 2 * HOUR_MS + SECOND_MS):
        cluster.claims.clear()
        cluster.send(0, payment("one"), time_ms)
        cluster.logs[REQUESTED][0][-1].time_ms = -1
    findings = check(cluster, tmp_path).findings
    assert findings.counts == {FindingKind.DOUBLED: 1}


def test_a_repeat_names_the_latest_claim(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.send(0, payment("one"))
    cluster.send(0, payment("one"), START_MS + 2 * HOUR_MS)
    cluster.send(0, payment("one"), START_MS + 2 * HOUR_MS + 1)
    assert kinds(check(cluster, tmp_path)) == set()
    cluster.find(AUDIT, 0, 6).change(firstSource={"topic": REQUESTED, "partition": 0, "offset": 0})
    assert kinds(check(cluster, tmp_path)) == {FindingKind.VERDICT}


# ---- while the flow runs, and with another number of lanes ----


def undecided(cluster: FakeCluster) -> FakeCluster:
    for topic in (PROCESSED, AUDIT):
        cluster.remove(topic, 1, 12)
    cluster.forget(1, 12)
    cluster.group[1] = 12
    cluster.lanes[lane_of("three")][1] = LanePosition(12, LANES)
    return cluster


def test_a_running_flow_may_be_behind(cluster: FakeCluster, tmp_path: Path) -> None:
    report = check(undecided(cluster), tmp_path, running=True)
    assert report.holds
    assert report.totals.waiting == 1
    assert report.notes == ["1 requests are not decided yet"]


def test_a_running_flow_may_have_claimed_more_than_could_be_read_of_its_outputs(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    """Their ends are looked up first; and claims go ahead of the outcomes."""
    undecided(cluster)
    claim(cluster, "three", 1, 12, amount="1e3", currency="JPY")
    assert check(cluster, tmp_path, running=True).holds
    assert kinds(check(cluster, tmp_path)) == {FindingKind.POSITION}
    claim(cluster, "three", 1, 12, amount="1e4", currency="JPY")
    assert FindingKind.CLAIM in kinds(check(cluster, tmp_path))


def test_a_payment_that_waits_for_the_gateway_is_neither_lost_nor_doubled(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    """Also if its copies are answered already: they come before its outcome."""
    park(waiting(cluster), "three", 1, 12)
    cluster.send(0, payment("three", "1e3", "JPY"), START_MS + 20)
    report = check(cluster, tmp_path)
    assert report.findings.examples == []
    assert (report.totals.pending, report.totals.waiting) == (1, 0)


def test_a_pending_payment_without_its_entry_is_lost(cluster: FakeCluster, tmp_path: Path) -> None:
    assert FindingKind.LOST in kinds(check(waiting(cluster), tmp_path))


def test_a_tombstone_ends_an_entry(cluster: FakeCluster, tmp_path: Path) -> None:
    park(cluster, "three", 1, 12)
    cluster.park(None, 1, 12)
    assert check(cluster, tmp_path).holds


def test_a_payment_may_be_decided_while_the_topics_of_a_running_flow_are_read(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    park(cluster, "three", 1, 12)
    assert check(cluster, tmp_path, running=True).holds


def test_a_decision_of_a_person_is_no_entry(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.append(PENDING, 0, START_MS, b"decision/e-1", b"{}")
    report = check(cluster, tmp_path)
    assert report.holds
    assert report.notes == []


def test_a_pending_record_that_no_lane_has_written_is_only_noted(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.append(PENDING, 0, START_MS, b"key", b"?")
    report = check(cluster, tmp_path)
    assert report.holds
    assert report.notes == ["no lane has written 1 records in pending"]


def test_a_stopped_one_may_not(cluster: FakeCluster, tmp_path: Path) -> None:
    report = check(undecided(cluster), tmp_path)
    assert kinds(report) == {FindingKind.POSITION}
    assert report.totals.waiting == 1


def test_committed_records_are_not_waited_for(cluster: FakeCluster, tmp_path: Path) -> None:
    undecided(cluster).group[1] = 13
    assert kinds(check(cluster, tmp_path, running=True)) == {FindingKind.LOST}


def test_one_lane_at_the_end_is_enough_after_a_change_of_lanes(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    """Which lane decided the last record of a lane of today is not known."""
    for lane in range(LANES):
        cluster.lanes[lane][1] = LanePosition(3, LANES - 1)
    cluster.lanes[0][1] = LanePosition(13, LANES)
    assert check(cluster, tmp_path).holds
    cluster.lanes[0][1] = LanePosition(12, LANES)
    assert kinds(check(cluster, tmp_path)) == {FindingKind.POSITION}


# ---- retention ----


def expire(cluster: FakeCluster, topic: str, partition: int, below: int) -> None:
    log = cluster.logs[topic][partition]
    log[:] = [record for record in log if record.offset >= below]
    cluster.lows[topic, partition] = below


def test_events_of_deleted_requests_are_not_judged(cluster: FakeCluster, tmp_path: Path) -> None:
    expire(cluster, REQUESTED, 0, 6)
    report = check(cluster, tmp_path)
    assert report.holds, report.findings.examples
    # Two outcomes, two audit events, two claims, and three repeats of a request that is gone.
    assert report.totals.unknown == 9
    assert report.notes == ["retention has deleted records of requested: [0] below 6"]


def long_history(audits_kept_from: int) -> FakeCluster:
    """Return a request a minute; of the audit topic, the beginning is deleted."""
    cluster = FakeCluster()
    for n in range(30):
        cluster.send(0, payment(f"pay-{n}"), START_MS + n * 60_000)
        cluster.send(1, payment(f"pay-{n}"), START_MS + n * 60_000 + 1)
    for partition in (0, 1):
        kept = [record.offset for record in cluster.logs[AUDIT][partition][audits_kept_from:]]
        expire(cluster, AUDIT, partition, kept[0])
    return cluster


def test_records_that_may_have_been_deleted_are_not_missed(tmp_path: Path) -> None:
    report = check(long_history(10), tmp_path)
    assert report.holds, report.findings.examples
    assert any("only this is checked" in note for note in report.notes)


def test_records_that_must_be_there_are_missed(tmp_path: Path) -> None:
    cluster = long_history(10)
    for topic in (PROCESSED, AUDIT):
        cluster.remove(topic, 0, 25 * 3)
    findings = check(cluster, tmp_path).findings
    assert FindingKind.LOST in findings.counts
    assert findings.examples[0].place == RecordPlace(REQUESTED, 0, 25 * 3)


def trimmed(kept_from: int) -> FakeCluster:
    """Return a request a minute; the beginning of the lanes' log is trimmed."""
    cluster = FakeCluster()
    for n in range(30):
        cluster.send(0, payment(f"pay-{n}"), START_MS + n * 60_000)
    for partition in (0, 1):
        log = cluster.logs[LANE_LOG][partition]
        left = [each.offset for each in log if each.time_ms >= START_MS + kept_from * 60_000]
        expire(cluster, LANE_LOG, partition, left[0] if left else log[-1].offset + cluster.step)
    return cluster


@pytest.mark.parametrize("kept_from", [0, 1, 15, 29, 30])
def test_a_claim_that_was_trimmed_is_not_missed(kept_from: int, tmp_path: Path) -> None:
    report = check(trimmed(kept_from), tmp_path)
    assert report.holds, report.findings.examples
    assert report.notes == []


def test_a_claim_that_cannot_have_been_trimmed_is_missed(tmp_path: Path) -> None:
    cluster = trimmed(15)
    for n in (10, 20, 28):
        cluster.forget(0, 3 * n)
    findings = check(cluster, tmp_path).findings
    assert findings.counts == {FindingKind.UNCLAIMED: 2}
    assert {each.place for each in findings.examples} == {
        RecordPlace(REQUESTED, 0, 3 * 20),
        RecordPlace(REQUESTED, 0, 3 * 28),
    }


def test_a_record_that_no_lane_has_written_claims_nothing(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.append(LANE_LOG, 1, START_MS, None, b"?")
    report = check(cluster, tmp_path)
    assert report.holds
    assert report.notes == ["no lane has written 1 records in lane-log"]


def test_nothing_is_remembered_with_nothing_left(tmp_path: Path) -> None:
    cluster = long_history(10)
    for partition in (0, 1):
        expire(cluster, AUDIT, partition, 1000)
    report = check(cluster, tmp_path)
    assert report.holds, report.findings.examples
    assert report.accounts == []
