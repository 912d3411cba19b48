"""The flow broken on purpose, one guarantee at a time: for each, some test must fail.

`tests/chaos/mutants.py` says which.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec import Raw, structs

from dataflow.core import silence
from dataflow.core.watermarks import Clock
from dataflow.dedupe import lane_files, manifest, run
from dataflow.dedupe.tiered import TieredIndex
from dataflow.errors import CommitError, Fault, FencedError
from dataflow.gateways import runner
from dataflow.kafka import (
    client_config,
    commit_pool,
    lane_log,
    lane_offsets,
    lane_transaction,
    partition_offsets,
    resume_point,
    source,
)
from dataflow.kafka.lane_names import lane_group
from dataflow.observability import status
from dataflow.steps import decode, dedupe, publish
from schemas import events
from schemas.outcomes import EventType
from schemas.requests import PaymentRequest

MUTATIONS: dict[str, Callable[[], None]] = {}
"""By name; the docstring says what is taken away."""
DISPENSABLE: dict[str, Callable[[], None]] = {}
"""What no guarantee may depend on: without it everything still holds."""


def _mutation(broken: Callable[[], None]) -> Callable[[], None]:
    MUTATIONS[_name(broken)] = broken
    return broken


def _dispensable(without: Callable[[], None]) -> Callable[[], None]:
    DISPENSABLE[_name(without)] = without
    return without


def _name(function: Callable[[], None]) -> str:
    return function.__name__.strip("_").replace("_", "-")


def _patch(owner: Any, name: str, broken: Any) -> None:
    """Put something broken in the place of what must be there, or this would break nothing."""
    getattr(owner, name)
    setattr(owner, name, broken)


# ---- the commit ----


@_mutation
def _offsets_outside_the_transaction() -> None:
    """The lane's offsets are committed before its records, as an ordinary consumer would."""
    build, commit = lane_transaction.Lane.__init__, lane_transaction.Lane._commit

    def remembering(self: Any, kafka: Any, lane: int, lanes: int, **rest: Any) -> None:
        group = lane_group(kafka.group_id, lane)
        self.ordinary = Consumer(client_config.client(kafka, "broken") | {"group.id": group})
        build(self, kafka, lane, lanes, **rest)

    def too_early(self: Any, deadline_s: float) -> None:
        positions = [TopicPartition(self._topic, p, o) for p, o in self._positions.items()]
        self.ordinary.commit(offsets=positions, asynchronous=False)
        self._positions = {}
        commit(self, deadline_s)

    _patch(lane_transaction.Lane, "__init__", remembering)
    _patch(lane_transaction.Lane, "_commit", too_early)


@_mutation
def _outcomes_outside_the_transaction() -> None:
    """Outcomes are published by a producer of their own, at once."""
    produce = lane_transaction.Lane._produce
    ordinary: dict[int, Producer] = {}

    def at_once(self: Any, topic: str, key: bytes | None, value: bytes, **more: Any) -> None:
        if topic.endswith(("audit", "lane-log")):
            produce(self, topic, key, value, **more)
            return
        brokers = {"bootstrap.servers": os.environ["KAFKA_BROKERS"]}
        producer = ordinary.setdefault(self._lane, Producer(brokers))
        producer.produce(topic, value, key)
        producer.flush()

    _patch(lane_transaction.Lane, "_produce", at_once)


@_mutation
def _claims_outside_the_transaction() -> None:
    """The lane's log is written by a producer of its own, before the transaction commits."""
    produce = lane_transaction.Lane._produce
    ordinary: dict[int, Producer] = {}

    def apart(self: Any, topic: str, key: bytes | None, value: bytes, **more: Any) -> None:
        if topic != self._log_topic:
            produce(self, topic, key, value, **more)
            return
        brokers = {"bootstrap.servers": os.environ["KAFKA_BROKERS"]}
        producer = ordinary.setdefault(self._lane, Producer(brokers))
        producer.produce(topic, value, key, **more)
        producer.flush()

    _patch(lane_transaction.Lane, "_produce", apart)


@_mutation
def _snapshot_before_commit() -> None:
    """The snapshots are stored at once, and Kafka commits when the next epoch begins."""
    write_batch = lane_transaction.Lane.write_batch

    def too_early(self: Any) -> bytes:
        self.late = self._open
        return b""

    def commit_first(self: Any, values: Any) -> None:
        if getattr(self, "late", False):
            self.late = False
            self.commit()
            self._clear()
        write_batch(self, values)

    _patch(commit_pool.CommitPool, "expect", lambda *_: None)
    _patch(lane_transaction.Lane, "snapshot", too_early)
    _patch(lane_transaction.Lane, "write_batch", commit_first)


@_mutation
def _delivery_errors_ignored() -> None:
    """A record that Kafka refuses is noticed by nobody, as without a delivery callback."""
    _patch(lane_transaction.Lane, "_check", lambda *_: None)


@_mutation
def _abort_instead_of_die() -> None:
    """A transaction that cannot be committed is aborted, and the flow goes on."""
    commit = lane_transaction.Lane._commit

    def or_abort(self: Any, deadline_s: float) -> None:
        try:
            commit(self, deadline_s)
        except CommitError:
            self._failure = None
            self._producer.abort_transaction(30)

    _patch(lane_transaction.Lane, "_commit", or_abort)


@_mutation
def _fencing_ignored() -> None:
    """Whoever was fenced carries on as if it had committed."""
    fault = lane_transaction.Lane._fault

    class PassedOver(Exception):  # noqa: N818  (only ever seen here)
        pass

    def no_fault(self: Any, what: str, error: KafkaException) -> Fault | PassedOver:
        found = fault(self, what, error)
        return PassedOver() if isinstance(found, FencedError) else found

    def passing(name: str) -> None:
        original = getattr(lane_transaction.Lane, name)

        def call(self: Any, *args: Any) -> Any:
            try:
                return original(self, *args)
            except PassedOver:
                return None

        _patch(lane_transaction.Lane, name, call)

    _patch(lane_transaction.Lane, "_fault", no_fault)
    for name in ("_commit", "_serve", "_produce"):
        passing(name)


@_mutation
def _no_fencing() -> None:
    """Each run has transactional ids of its own, so nobody is ever fenced."""
    run = uuid.uuid4().hex

    def its_own(group: str, lane: int) -> str:
        return f"{group}-{run}-lane-{lane}"

    _patch(lane_transaction, "transactional_id", its_own)
    _patch(lane_offsets, "transactional_id", its_own)


# ---- the restart ----


@_mutation
def _leftovers_ignored() -> None:
    """A lane starts over a transaction of the previous run that Kafka has never ended."""
    _patch(lane_offsets.LaneOffsets, "_expect_no_leftovers", lambda _: None)


@_mutation
def _no_restore() -> None:
    """What is remembered is not read back after a restart."""
    _patch(lane_log.LaneLog, "restore", lambda *_: {})


@_mutation
def _no_replay() -> None:
    """Records that a lane has committed are not dropped when they are read again."""
    _patch(decode.Decode, "_drop_committed", lambda *_: None)


@_mutation
def _log_read_before_fencing() -> None:
    """The lane's log is read while the previous run may still write to it."""
    build, offsets_at = lane_log.LaneLog.__init__, partition_offsets.offsets_at
    early: dict[int, int] = {}

    def too_early(self: Any, kafka: Any, lanes: int, found: Any, *rest: Any) -> None:
        admin = AdminClient(client_config.client(kafka, "too-early"))
        partitions = range(found.log_partitions)
        early.update(offsets_at(admin, kafka.topic_lane_log, partitions, partition_offsets.LATEST))
        time.sleep(1.5)
        build(self, kafka, lanes, found, *rest)

    def as_it_was(admin: Any, topic: str, partitions: Any, spec: Any, *level: Any) -> Any:
        if spec is partition_offsets.LATEST and not level:
            return early
        return offsets_at(admin, topic, partitions, spec, *level)

    take = lane_log.LaneLog._take

    def below_those_ends(self: Any, message: Any, parts: Any) -> Any:
        is_below = message.offset() < early[message.partition()]
        return take(self, message, parts) if is_below else 0

    _patch(lane_log.LaneLog, "__init__", too_early)
    _patch(lane_log, "offsets_at", as_it_was)
    _patch(lane_log.LaneLog, "_take", below_those_ends)


@_mutation
def _files_of_what_is_not_committed() -> None:
    """Ids go to files as soon as they are judged."""
    observe = TieredIndex.observe

    def and_committed(self: Any, *batch: Any) -> Any:
        seen = observe(self, *batch)
        self.committed(self.position)
        return seen

    _patch(TieredIndex, "observe", and_committed)


@_mutation
def _foreign_files_believed() -> None:
    """Files of remembered ids are taken for those of this log, whatever their manifest says."""

    def whoevers(directory: Path, _owner: Any) -> Any:
        path = directory / manifest.FILE_NAME
        if not path.exists():
            return None
        return msgspec.json.decode(path.read_bytes().partition(b"\n")[2], type=manifest.Manifest)

    _patch(lane_files, "read_manifest", whoevers)


@_mutation
def _files_beyond_the_log_believed() -> None:
    """Files of remembered ids are believed that reach further than the log does."""
    _patch(TieredIndex, "start_over", lambda *_: None)


@_mutation
def _files_of_the_next_process_stated() -> None:
    """Files are said to reach to where the log ends, whoever has written there."""

    def to_the_end(self: Any, index: Any) -> None:
        index.committed(self._log.ends())

    _patch(dedupe.Dedupe, "_mark_committed", to_the_end)


@_mutation
def _damage_unseen() -> None:
    """Files of remembered ids are believed as they are."""

    def as_they_are(self: Any, _file: Any, start: int, count: int) -> Any:
        return self._blocks[start : start + count]

    _patch(run, "_check", lambda *_: None)
    _patch(run.Run, "_read", as_they_are)


@_mutation
def _lost_log_ignored() -> None:
    """A log that has lost ids is taken for all there is."""
    _patch(lane_log, "least_ids", lambda *_: 0)
    _patch(lane_log.LaneLog, "_refuse_another_log", lambda _: None)


@_mutation
def _no_check_of_the_snapshot() -> None:
    """A snapshot that is ahead of the committed offsets is believed."""
    _patch(resume_point.ResumePoint, "check", lambda *_: None)


@_mutation
def _another_service_unseen() -> None:
    """Nobody looks whether another service is a member of the group."""
    _patch(resume_point, "_members", lambda *_: [])


@_mutation
def _offsets_of_others_for_our_own() -> None:
    """A position that another service has committed passes for one of the flow's."""
    _patch(resume_point.ResumePoints, "_refuse_overtaken", lambda *_: None)


@_mutation
def _lost_partition_for_a_new_one() -> None:
    """A partition whose offsets are gone is read from its front, as one that was added."""
    _patch(resume_point.ResumePoints, "_lost", lambda *_: None)


@_mutation
def _no_first_beats() -> None:
    """A lane has an offset of a partition only once it had a record of it."""
    _patch(source, "_FIRST_BEATS", 0)


@_mutation
def _group_offset_too_early() -> None:
    """The group is told what is read, not what is durable."""
    fetched = source.RequestPartition._fetched

    def and_committed(self: Any, *args: Any) -> Any:
        out = fetched(self, *args)
        position = TopicPartition(self._topic, self._partition, self._next_offset)
        self._consumer.commit(offsets=[position], asynchronous=False)
        return out

    _patch(source.RequestPartition, "_fetched", and_committed)


@_mutation
def _no_lock() -> None:
    """Two executions may use one recovery directory."""
    _patch(fcntl, "flock", lambda *_: None)


# ---- the decision ----


@_mutation
def _lanes_by_partition() -> None:
    """A record's lane is that of its input partition, not of its paymentId."""
    split = decode.Decode._split

    def by_partition(self: Any, batch: Any) -> Any:
        lane = batch.partition % self._lanes
        vars(decode)["lanes_of"] = lambda keys, _lanes: np.full(len(keys), lane)
        return split(self, batch)

    _patch(decode.Decode, "_split", by_partition)


@_mutation
def _fingerprint_ignored() -> None:
    """Whatever comes under a known paymentId is a duplicate of it."""
    _patch(PaymentRequest, "identity", _with_one_fingerprint(PaymentRequest.identity))


def _with_one_fingerprint(identity: Callable[[PaymentRequest], bytes]) -> Callable[..., bytes]:
    return lambda request: identity(request)[:16] + b"\x01" * 8


@_mutation
def _window_never_forgotten() -> None:
    """Nothing leaves the window."""
    _patch(TieredIndex, "expire", lambda *_: None)


@_mutation
def _window_forgotten_too_early() -> None:
    """Half of the window is enough."""
    build = dedupe.Dedupe.__init__

    def halved(
        self: Any, number: int, remembered: Any, log: Any, ids: Any, window_ms: int, *rest: Any
    ) -> None:
        build(self, number, remembered, log, ids, window_ms // 2, *rest)

    _patch(dedupe.Dedupe, "__init__", halved)


@_mutation
def _date_by_the_record() -> None:
    """An id is as old as its record says it is."""
    judge = dedupe.Dedupe._judge

    def as_stamped(self: Any, batch: Any) -> Any:
        batch.read_at = int(batch.times_ms.min()) / 1000
        self._watermark_s, watermark_s = 0, self._watermark_s
        try:
            return judge(self, batch)
        finally:
            self._watermark_s = watermark_s

    _patch(dedupe.Dedupe, "_judge", as_stamped)


@_mutation
def _clock_believed() -> None:
    """Whatever the wall clock says while a process runs decides what is forgotten."""
    _patch(Clock, "now_s", lambda _self, wall_s, _monotonic_s: wall_s)


@_mutation
def _clock_unconfirmed() -> None:
    """Whatever the wall clock says at a start decides what is forgotten."""
    log, come_further = lane_transaction.Lane._log, source.RequestPartition._has_come_further

    def entries_only(self: Any, value: bytes, time_ms: int) -> None:
        if value:
            log(self, value, time_ms)

    def at_once(self: Any) -> bool:
        self._is_clock_right = True
        return come_further(self)

    _patch(lane_transaction.Lane, "_log", entries_only)
    _patch(source.RequestPartition, "_has_come_further", at_once)


@_mutation
def _requests_of_aborted_transactions() -> None:
    """What was never asked for, as its producer took it back, is charged."""
    consumer = client_config.consumer

    def uncommitted(*args: Any) -> client_config.Config:
        return consumer(*args) | {"isolation.level": "read_uncommitted"}

    _patch(client_config, "consumer", uncommitted)


# ---- what goes on unseen ----


@_mutation
def _end_as_the_client_saw_it() -> None:
    """The source overwrites the end of its partition with what its client saw last."""

    def believing(self: Any, high_watermark: int) -> None:
        self.high_watermark = high_watermark

    _patch(status._Partition, "client_saw_end", believing)


@_mutation
def _silence_without_a_witness() -> None:
    """A client is at fault if it delivers nothing, whether or not there is anything to deliver."""

    def at_once(self: Any) -> None:
        self._witnessed = self._position

    _patch(silence.Silence, "to_be_witnessed", property(at_once))


@_mutation
def _gateway_left_open() -> None:
    """The flow ends without closing the gateway."""
    _patch(runner.GatewayRunner, "close", lambda _: None)


@_mutation
def _impossible_timestamps_believed() -> None:
    """A sender that writes 1970 pages whoever is on call."""
    _patch(
        lane_transaction,
        "plausible",
        lambda times_ms, _now_ms: np.full(len(times_ms), fill_value=True),
    )


# ---- what is published ----


@_mutation
def _audit_event_dropped() -> None:
    """A duplicate has no audit event."""
    event = publish.Audit.event

    def dropping(self: Any, event_id: str, source: Any, outcome: Any, at: str) -> Any:
        if getattr(outcome, "event_type", None) is EventType.DUPLICATE:
            return None
        return event(self, event_id, source, outcome, at)

    _patch(publish.Audit, "event", dropping)


@_mutation
def _event_ids_at_random() -> None:
    """The same record has another event id each time."""
    _patch(events.Records, "event_id", lambda *_: str(uuid.uuid4()))


@_mutation
def _money_as_a_float() -> None:
    """Amounts are published as binary floats would have them."""
    processed = events.processed

    def rounded(event_id: Any, origin: Any, request: Any, *rest: Any) -> events.ProcessedEvent:
        event = processed(event_id, origin, request, *rest)
        return structs.replace(event, amount=Raw(repr(float(request.amount)).encode()))

    _patch(events, "processed", rounded)


# ---- what nothing may depend on ----


@_dispensable
def _no_group_offsets() -> None:
    """The group is never told a position."""

    def only_report(self: Any) -> None:
        offset, self._durable = self._durable, None
        if offset is not None:
            self._status.committed_at(self._partition, offset)

    _patch(source.RequestPartition, "_commit_group_offset", only_report)
