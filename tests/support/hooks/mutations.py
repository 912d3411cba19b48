"""The flow broken on purpose, one guarantee at a time: for each, some test must fail.

`tests/chaos/mutants.py` names it.
"""

import copy
import fcntl
import os
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec import Raw, structs

from dataflow.core import (
    call_rate,
    committable_position,
    lane_queue,
    offset_refresh,
    persons_decisions,
    refusals,
    retry_schedule,
    silence,
)
from dataflow.core.lanes import lanes_of
from dataflow.core.origins import are_same, places
from dataflow.core.timestamps import plausible
from dataflow.core.verdicts import Verdict
from dataflow.core.watermarks import Clock
from dataflow.dedupe import lane_files, manifest, run
from dataflow.dedupe.manifest import read_manifest
from dataflow.dedupe.tiered import TieredIndex
from dataflow.errors import CommitError, Fault, FencedError
from dataflow.gateways import (
    calls,
    decimals,
    dispatcher,
    http,
    http_client,
    mapping_shape,
    stripe,
    stripe_answers,
)
from dataflow.gateways.port import idempotency_key
from dataflow.kafka import (
    client_config,
    commit_pool,
    group_offset,
    lane_log,
    lane_marks,
    lane_offsets,
    lane_transaction,
    partition_offsets,
    partition_reader,
    resume_point,
    source,
    start_facts,
)
from dataflow.kafka.lane_names import lane_group, transactional_id
from dataflow.observability import partition_progress
from dataflow.schema_registry import avro_codec
from dataflow.steps import decode, dedupe, process, publish
from schemas import decisions, events, money
from schemas.outcomes import ErrorCode, EventType
from schemas.replies import Declined, NotExecuted, Unknown
from schemas.requests import PaymentRequest
from tests.support.hooks.references import Place, Reference, imported_place, place_of

MUTATIONS: dict[str, Callable[[], None]] = {}
"""By name; the docstring has what is taken away."""
DISPENSABLE: dict[str, Callable[[], None]] = {}
"""Parts that no guarantee may depend on: without them everything still holds."""


def _mutation(broken: Callable[[], None]) -> Callable[[], None]:
    MUTATIONS[_name(broken)] = broken
    return broken


def _dispensable(without: Callable[[], None]) -> Callable[[], None]:
    DISPENSABLE[_name(without)] = without
    return without


def _name(function: Callable[[], None]) -> str:
    return function.__name__.strip("_").replace("_", "-")


def _patch(reference: Reference, broken: object) -> None:
    """Put something broken in the place of what the lambda refers to."""
    place_of(reference).replace(broken)


def _patch_import(module: ModuleType, function: Callable[..., object], broken: object) -> None:
    """Put something broken in the place of a function where another module imports it."""
    imported_place(module, function).replace(broken)


# ---- the commit ----


@_mutation
def _offsets_outside_the_transaction() -> None:
    """Commit the lane's offsets before its records, as an ordinary consumer would."""
    build, commit = lane_transaction.Lane.__init__, lane_transaction.Lane._commit
    ordinary: dict[int, Consumer] = {}

    def remembering(self: lane_transaction.Lane, context: Any, lane: int, *rest: Any) -> None:
        kafka = context.settings.kafka
        group = lane_group(kafka.group_id, lane)
        ordinary[lane] = Consumer(client_config.client(kafka, "broken") | {"group.id": group})
        build(self, context, lane, *rest)

    def too_early(self: lane_transaction.Lane, deadline_s: float) -> None:
        positions = [TopicPartition(self._topic, p, o) for p, o in self._positions.items()]
        if positions:
            ordinary[self._lane].commit(offsets=positions, asynchronous=False)
        self._positions = {}
        commit(self, deadline_s)

    _patch(lambda: lane_transaction.Lane.__init__, remembering)
    _patch(lambda: lane_transaction.Lane._commit, too_early)


def _write_outside_the_transaction(
    is_outside: Callable[[lane_transaction.Lane, str, bytes | None], bool],
) -> None:
    """Have lanes write the records of some topics with a producer of their own, at once."""
    produce = lane_transaction.Lane._produce
    ordinary: dict[int, Producer] = {}

    def apart(
        self: lane_transaction.Lane, topic: str, key: bytes | None, value: bytes | None, **more: Any
    ) -> None:
        if not is_outside(self, topic, key):
            produce(self, topic, key, value, **more)
            return
        brokers = {"bootstrap.servers": os.environ["KAFKA_BROKERS"]}
        producer = ordinary.setdefault(self._lane, Producer(brokers))
        producer.produce(topic, value, key, **more)
        producer.flush()

    _patch(lambda: lane_transaction.Lane._produce, apart)


@_mutation
def _outcomes_outside_the_transaction() -> None:
    """Publish outcomes with a producer of their own, at once."""
    _write_outside_the_transaction(
        lambda _lane, topic, _: not topic.endswith(("audit", "lane-log"))
    )


@_mutation
def _claims_outside_the_transaction() -> None:
    """Write the lane's log with a producer of its own, before the transaction commits."""
    _write_outside_the_transaction(lambda lane, topic, _: topic == lane._log_topic)


@_mutation
def _snapshot_before_commit() -> None:
    """Store the snapshots at once, and commit to Kafka when the next epoch begins."""
    write_batch = lane_transaction.Lane.write_batch
    late: set[int] = set()

    def too_early(self: lane_transaction.Lane) -> bytes:
        if self._open:
            late.add(self._lane)
        return b""

    def commit_first(self: lane_transaction.Lane, values: Any) -> None:
        if self._lane in late:
            late.remove(self._lane)
            self.commit()
            self._clear()
        write_batch(self, values)

    _patch(lambda: commit_pool.CommitPool.expect, lambda *_: None)
    _patch(lambda: lane_transaction.Lane.snapshot, too_early)
    _patch(lambda: lane_transaction.Lane.write_batch, commit_first)


@_mutation
def _delivery_errors_ignored() -> None:
    """Ignore a record that Kafka refuses, as without a delivery callback."""
    _patch(lambda: lane_transaction.Lane._check, lambda *_: None)


@_mutation
def _abort_instead_of_die() -> None:
    """Abort a transaction that cannot be committed, and go on with the flow."""
    commit = lane_transaction.Lane._commit

    def or_abort(self: lane_transaction.Lane, deadline_s: float) -> None:
        try:
            commit(self, deadline_s)
        except CommitError:
            self._failure = None
            self._producer.abort_transaction(30)

    _patch(lambda: lane_transaction.Lane._commit, or_abort)


@_mutation
def _fencing_ignored() -> None:
    """Carry on as if it had committed, although it was fenced."""
    fault = lane_transaction.Lane._fault

    class PassedOver(Exception):  # noqa: N818  (only ever seen here)
        pass

    def no_fault(
        self: lane_transaction.Lane, what: str, error: KafkaException
    ) -> Fault | PassedOver:
        found = fault(self, what, error)
        return PassedOver() if isinstance(found, FencedError) else found

    def passing(place: Place) -> None:
        original = place.value

        def call(self: Any, *args: Any) -> Any:
            try:
                return original(self, *args)
            except PassedOver:
                return None

        place.replace(call)

    _patch(lambda: lane_transaction.Lane._fault, no_fault)
    passing(place_of(lambda: lane_transaction.Lane._commit))
    passing(place_of(lambda: lane_transaction.Lane._serve))
    passing(place_of(lambda: lane_transaction.Lane._produce))


@_mutation
def _no_fencing() -> None:
    """Give each run transactional ids of its own, so that none is ever fenced."""
    run = uuid.uuid4().hex

    def its_own(group: str, lane: int) -> str:
        return f"{group}-{run}-lane-{lane}"

    _patch_import(lane_transaction, transactional_id, its_own)
    _patch_import(lane_offsets, transactional_id, its_own)


# ---- the restart ----


@_mutation
def _leftovers_ignored() -> None:
    """Start a lane over a transaction of the previous run that Kafka has never ended."""
    _patch(lambda: lane_offsets.LaneOffsets._expect_no_leftovers, lambda _: None)


@_mutation
def _no_restore() -> None:
    """Skip the restore: what is remembered is not read back after a restart."""
    _patch(lambda: lane_log.LaneLog.restore, lambda *_: {})


@_mutation
def _no_replay() -> None:
    """Keep records that a lane has committed when they are read again."""
    _patch(lambda: decode.Decode._drop_committed, lambda *_: None)


@_mutation
def _log_read_before_fencing() -> None:
    """Read the lane's log while the previous run may still write to it."""
    build, offsets_at = lane_log.LaneLog.__init__, partition_offsets.offsets_at
    early: dict[int, int] = {}

    def too_early(self: lane_log.LaneLog, context: Any, *rest: Any) -> None:
        kafka = context.settings.kafka
        admin = AdminClient(client_config.client(kafka, "too-early"))
        partitions = range(context.cluster.log_partitions)
        early.update(offsets_at(admin, kafka.topic_lane_log, partitions, partition_offsets.LATEST))
        time.sleep(1.5)
        build(self, context, *rest)

    def as_it_was(admin: Any, topic: str, partitions: Any, spec: Any, *level: Any) -> Any:
        if spec is partition_offsets.LATEST and not level:
            return early
        return offsets_at(admin, topic, partitions, spec, *level)

    take = lane_log.LaneLog._take

    def below_those_ends(self: lane_log.LaneLog, message: Any, parts: Any) -> Any:
        is_below = message.offset() < early[message.partition()]
        return take(self, message, parts) if is_below else 0

    _patch(lambda: lane_log.LaneLog.__init__, too_early)
    _patch_import(lane_log, offsets_at, as_it_was)
    _patch(lambda: lane_log.LaneLog._take, below_those_ends)


@_mutation
def _files_of_what_is_not_committed() -> None:
    """Write ids to files as soon as they are judged, and go on once that is done."""
    observe = TieredIndex.observe

    def and_committed(self: TieredIndex, *batch: Any) -> Any:
        seen = observe(self, *batch)
        for _ in range(2):  # another job may be under way
            self.committed(self.position)
            if self._job is not None:
                self._job.done.exception()
        return seen

    _patch(lambda: TieredIndex.observe, and_committed)


@_mutation
def _foreign_files_believed() -> None:
    """Take files of remembered ids for those of this log, whatever is in their manifest."""

    def whoevers(directory: Path, _owner: Any) -> Any:
        path = directory / manifest.FILE_NAME
        if not path.exists():
            return None
        return msgspec.json.decode(path.read_bytes().partition(b"\n")[2], type=manifest.Manifest)

    _patch_import(lane_files, read_manifest, whoevers)


@_mutation
def _files_beyond_the_log_believed() -> None:
    """Believe files of remembered ids that reach further than the log does."""
    _patch(lambda: TieredIndex.start_over, lambda *_: None)


@_mutation
def _files_of_the_next_process_stated() -> None:
    """State that files reach to where the log ends, even if another process has written there."""

    def to_the_end(self: dedupe.Dedupe, index: Any) -> None:
        index.committed(self._log.ends())

    _patch(lambda: dedupe.Dedupe._mark_committed, to_the_end)


@_mutation
def _damage_unseen() -> None:
    """Believe files of remembered ids as they are."""

    def as_they_are(self: run.Run, _file: Any, start: int, count: int) -> Any:
        return self._blocks[start : start + count]

    _patch(lambda: run._check, lambda *_: None)
    _patch(lambda: run.Run._read, as_they_are)


@_mutation
def _lost_log_ignored() -> None:
    """Take a log that has lost ids for all there is."""
    _patch(lambda: lane_marks.least_ids, lambda *_: 0)
    _patch(lambda: lane_log.LaneLog._refuse_another_log, lambda _: None)


@_mutation
def _no_check_of_the_snapshot() -> None:
    """Believe a snapshot that is ahead of the committed offsets."""
    _patch(lambda: resume_point.ResumePoint.check, lambda *_: None)


@_mutation
def _another_service_unseen() -> None:
    """Skip the check whether another service is a member of the group."""
    _patch(lambda: start_facts._members, lambda *_: [])


@_mutation
def _offsets_of_others_for_our_own() -> None:
    """Take a position that another service has committed for one of the flow's."""
    _patch(lambda: resume_point.ResumePoints._refuse_overtaken, lambda *_: None)


@_mutation
def _lost_partition_for_a_new_one() -> None:
    """Read a partition whose offsets are gone from its front, as one that was added."""
    _patch(lambda: resume_point.ResumePoints._lost, lambda *_: None)


@_mutation
def _no_first_refreshes() -> None:
    """Commit a lane's offset of a partition only once it had a record of it."""
    _patch(lambda: offset_refresh._FIRST, 0)


@_mutation
def _group_offset_too_early() -> None:
    """Commit to the group what is read, not what is durable."""
    read = partition_reader.PartitionReader.read

    def and_commit(self: partition_reader.PartitionReader, at_most: int) -> Any:
        records = read(self, at_most)
        if records is not None:
            position = TopicPartition(self._topic, self._partition, self.next_offset)
            self._consumer.commit(offsets=[position], asynchronous=False)
        return records

    _patch(lambda: partition_reader.PartitionReader.read, and_commit)


@_mutation
def _no_lock() -> None:
    """Let two executions use one recovery directory."""
    _patch(lambda: fcntl.flock, lambda *_: None)


# ---- the decision ----


@_mutation
def _lanes_by_partition() -> None:
    """Choose a record's lane by its input partition, not by its paymentId."""
    split, place = decode.Decode._split, imported_place(decode, lanes_of)

    def by_partition(self: decode.Decode, batch: Any) -> Any:
        lane = batch.partition % self._lanes
        place.replace(lambda keys, _lanes: np.full(len(keys), lane))
        return split(self, batch)

    _patch(lambda: decode.Decode._split, by_partition)


@_mutation
def _fingerprint_ignored() -> None:
    """Take anything under a known paymentId for a duplicate of it."""
    _patch(lambda: PaymentRequest.identity, _with_one_fingerprint(PaymentRequest.identity))


def _with_one_fingerprint(identity: Callable[[PaymentRequest], bytes]) -> Callable[..., bytes]:
    return lambda request: identity(request)[:16] + b"\x01" * 8


@_mutation
def _window_never_forgotten() -> None:
    """Let nothing leave the window."""
    _patch(lambda: TieredIndex.expire, lambda *_: None)


@_mutation
def _window_forgotten_too_early() -> None:
    """Remember ids for half of the window only."""
    build: Any = dedupe.Dedupe.__init__

    def too_early(self: dedupe.Dedupe, *parts: Any) -> None:
        *others, expiry, max_bytes = parts
        build(self, *others, expiry._replace(window_ms=expiry.window_ms // 2), max_bytes)

    _patch(lambda: dedupe.Dedupe.__init__, too_early)


@_mutation
def _date_by_the_record() -> None:
    """Date an id by its record's timestamp."""
    judge = dedupe.Dedupe._judge

    def as_stamped(self: dedupe.Dedupe, batch: Any) -> Any:
        batch.read_at = int(batch.times_ms.min()) / 1000
        self._watermark_s, watermark_s = 0, self._watermark_s
        try:
            return judge(self, batch)
        finally:
            self._watermark_s = watermark_s

    _patch(lambda: dedupe.Dedupe._judge, as_stamped)


@_mutation
def _clock_believed() -> None:
    """Let the wall clock decide what is forgotten while a process runs."""
    _patch(lambda: Clock.now_s, lambda _self, wall_s, _monotonic_s: wall_s)


@_mutation
def _clock_unconfirmed() -> None:
    """Let the wall clock decide what is forgotten at a start."""
    log, come_further = lane_transaction.Lane._log, source.RequestPartition._has_come_further

    def entries_only(self: lane_transaction.Lane, value: bytes, time_ms: int) -> None:
        if value:
            log(self, value, time_ms)

    def at_once(self: source.RequestPartition) -> bool:
        self._refresh.is_clock_confirmed = True
        return come_further(self)

    _patch(lambda: lane_transaction.Lane._log, entries_only)
    _patch(lambda: source.RequestPartition._has_come_further, at_once)


def _read_uncommitted(configuration: Callable[[], Callable[..., client_config.Config]]) -> None:
    configure = configuration()

    def uncommitted(*args: Any) -> client_config.Config:
        return configure(*args) | {"isolation.level": "read_uncommitted"}

    _patch(configuration, uncommitted)


@_mutation
def _requests_of_aborted_transactions() -> None:
    """Charge what was never asked for, as its producer took it back."""
    _read_uncommitted(lambda: client_config.consumer)


@_mutation
def _claims_of_aborted_transactions() -> None:
    """Read the lanes' log beyond what is committed."""
    _read_uncommitted(lambda: client_config.log_consumer)


# ---- records that name a schema ----


@_mutation
def _records_that_wait_are_passed() -> None:
    """Read on behind a record whose schema is not there yet."""
    read = partition_reader.PartitionReader.read

    def passing(self: partition_reader.PartitionReader, at_most: int) -> Any:
        self._waiting = []
        return read(self, at_most)

    _patch(lambda: partition_reader.PartitionReader.read, passing)


@_mutation
def _decimals_of_the_library() -> None:
    """Round a decimal to the precision of its schema, by a context that all threads share."""
    _patch(lambda: avro_codec._EXACT, "decimal")


# ---- the gateway ----


@_mutation
def _charged_before_the_claim_is_committed() -> None:
    """Charge a payment in the epoch in which it is claimed."""
    add, take_in = lane_queue.LaneQueue.add, process.Process.__call__

    def as_if_claimed_before(self: Any, batch: Any, due: Any) -> Any:
        queued = add(self, batch, due)
        queued.claimed_in -= 1
        return queued

    def and_charged(self: Any, items: Any) -> Any:
        out = take_in(self, items)
        for lane in self._lanes.values():
            self._charge(lane.queue.begin(lane.queue.epoch, time.monotonic()))
        return out

    _patch(lambda: lane_queue.LaneQueue.add, as_if_claimed_before)
    _patch(lambda: process.Process.__call__, and_charged)


@_mutation
def _claims_of_the_last_run_are_repeats() -> None:
    """Take what the last run has claimed, and not decided, for a repeat of itself."""
    judge = dedupe.Dedupe._judge

    def as_remembered(self: Any, batch: Any) -> Any:
        judged = judge(self, batch)
        for record in judged.claimed_before:
            judged.verdicts[record] = int(Verdict.DUPLICATE)
        return judged

    _patch(lambda: dedupe.Dedupe._judge, as_remembered)


@_mutation
def _claims_of_a_deleted_topic_count() -> None:
    """Take a record for the one that has claimed its paymentId by the place alone."""

    def are_at_one_place(some: Any, others: Any) -> Any:
        return places(some) == places(others)

    _patch_import(dedupe, are_same, are_at_one_place)


@_mutation
def _parked_outside_the_transaction() -> None:
    """Write what is parked with a producer of its own, at once."""
    _write_outside_the_transaction(lambda lane, topic, _: topic == lane._pending_topic)


@_mutation
def _positions_that_do_not_lag() -> None:
    """Keep the position of what is read, though it waits in the lanes."""

    def everything(self: Any, _epoch: int, _lowest: int | None) -> int:
        self.drain()
        return int(self.offset)

    _patch(lambda: committable_position.CommittablePosition.end_epoch, everything)


@_mutation
def _answers_emitted_while_restoring() -> None:
    """Emit the outcomes of what was parked before all lanes are restored."""
    _patch(lambda: process._QUIET, set())


@_mutation
def _a_hold_kept_to_itself() -> None:
    """Announce no hold: the other processes of the cluster read on."""
    _patch(lambda: dispatcher.Dispatcher.hold_to_announce, lambda _self: None)


@_mutation
def _posted_with_an_expired_key() -> None:
    """Post a payment however old its key is."""
    always = retry_schedule.Ask.POST
    _patch_import(calls, retry_schedule.way_to_ask, lambda *_args, **_how: always)


@_mutation
def _new_key_after_a_timeout() -> None:
    """Send a payment that got no answer under another key: the first charge may have happened."""
    reply, attempt = calls.Calls.reply, [""]

    def another_key(payment_id: str) -> str:
        return idempotency_key(payment_id + attempt[0])

    async def counting(self: Any, charge: Any) -> Any:
        # The key is made before anything else can run.
        attempt[0] = f":{charge.attempts}" if charge.attempts else ""
        return await reply(self, charge)

    _patch_import(calls, idempotency_key, another_key)
    _patch(lambda: calls.Calls.reply, counting)


@_mutation
def _failover_on_unknown() -> None:
    """Have a second provider charge what the first one may have charged."""
    send = http_client.HttpClient.send

    async def failing_over(self: Any, method: str, path: str, **more: Any) -> Any:
        response = await send(self, method, path, **more)
        if method == "GET" or not isinstance(response, Unknown):
            return response
        second = copy.copy(self)
        second._base_url, second._connections = os.environ["SECOND_PROVIDER"], None
        try:
            return await send(second, method, path, **more)
        finally:
            await second.close()

    _patch(lambda: http_client.HttpClient.send, failing_over)


@_mutation
def _calls_too_many_ignored() -> None:
    """Go on as fast as before when the provider answers that it is too much."""
    _patch(lambda: call_rate.CallRate.too_fast, lambda *_: None)


@_mutation
def _calls_too_many_as_an_outage() -> None:
    """Hold when the provider answers that it is too much."""
    note = dispatcher.Dispatcher._note_indefinite

    def counting(self: Any, reason: str, reply: Any, *, first: bool) -> None:
        if isinstance(reply, NotExecuted):
            reply = structs.replace(reply, too_many=False)
        note(self, reason, reply, first=first)

    _patch(lambda: dispatcher.Dispatcher._note_indefinite, counting)


@_mutation
def _keys_that_do_not_age_while_suspended() -> None:
    """Take a key to be new when its payment is charged, however long ago that was read."""
    charge = lane_queue.QueuedBatch.charge

    def new(self: lane_queue.QueuedBatch, number: int, now_s: float) -> Any:
        self.batch.read_at, read_at = now_s, self.batch.read_at
        try:
            return charge(self, number, now_s)
        finally:
            self.batch.read_at = read_at

    _patch(lambda: lane_queue.QueuedBatch.charge, new)


# ---- the decisions of persons ----


@_mutation
def _decided_without_the_provider() -> None:
    """Let a person's decision stand, though the provider could not be reached."""
    _patch(lambda: persons_decisions.outcome, lambda decision, *_: decision.reply)


@_mutation
def _posted_though_a_person_has_decided() -> None:
    """Go on posting a payment that a person has decided."""
    _patch(lambda: calls._is_decided, lambda _: False)


@_mutation
def _decisions_ended_outside_the_transaction() -> None:
    """Write that a decision is over with a producer of its own, before the transaction commits."""
    _write_outside_the_transaction(lambda _lane, _topic, key: decisions.is_decision(key))


# ---- what goes on unseen ----


@_mutation
def _end_as_the_client_saw_it() -> None:
    """Overwrite the end of the source's partition with what its client saw last."""

    def believing(self: partition_progress.Partition, high_watermark: int) -> None:
        self.high_watermark = high_watermark

    _patch(lambda: partition_progress.Partition.client_saw_end, believing)


@_mutation
def _silence_without_a_witness() -> None:
    """Blame a client that delivers nothing, whether or not there is anything to deliver."""

    def at_once(self: Any) -> None:
        self._witnessed = self._position

    _patch(lambda: silence.Silence.to_be_witnessed, property(at_once))


@_mutation
def _gateway_left_open() -> None:
    """End the flow without closing the gateway."""
    _patch(lambda: dispatcher.Dispatcher.close, lambda _: None)


@_mutation
def _minor_units_of_iso() -> None:
    """Send amounts in the minor units of ISO 4217, which no provider has throughout."""

    def by_iso(amount: Any, currency: str, _units: Any) -> int:
        return int(amount.scaleb(money.EXPONENTS[currency]))

    _patch(lambda: decimals.to_minor, by_iso)


@_mutation
def _decimals_of_a_gateway_ignored() -> None:
    """Have a gateway charge an amount that its provider cannot take exactly."""
    _patch_import(calls, decimals.can_be_written, lambda *_: True)


@_mutation
def _refusals_always_believed() -> None:
    """Decline every payment for good, if the key is that of another account."""
    _patch(lambda: refusals.Refusals.refused, lambda _: True)


@_mutation
def _refusals_end_their_own_row() -> None:
    """Take a refusal for a decision, which shows that the provider knows us."""
    note = dispatcher.Dispatcher._note_definite

    def deciding(self: Any, *, first: bool, count: int = 1, decided: bool = True) -> None:
        note(self, first=first, count=count, decided=decided or True)

    _patch(lambda: dispatcher.Dispatcher._note_definite, deciding)


@_mutation
def _saved_error_as_a_decline() -> None:
    """Take a 500 for a refusal, though the charge may have happened."""
    of_charge = stripe_answers.of_charge

    def declining(response: Any) -> Any:
        if response.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return Declined(ErrorCode.DECLINED, "HTTP 500", retryable=True)
        return of_charge(response)

    _patch_import(stripe, of_charge, declining)


@_mutation
def _saved_errors_are_posted_again() -> None:
    """Post a payment again that the provider has saved a failure of: it never gets another one."""
    _patch(lambda: http.HttpGateway._is_saved, lambda *_: False)


@_mutation
def _timeout_as_not_executed() -> None:
    """Take a lost answer for a charge that did not happen."""
    send = http_client.HttpClient.send

    async def believing(self: Any, *arguments: Any, **more: Any) -> Any:
        response = await send(self, *arguments, **more)
        return NotExecuted(response.reason) if isinstance(response, Unknown) else response

    _patch(lambda: http_client.HttpClient.send, believing)


@_mutation
def _payer_left_waiting() -> None:
    """Decline a payment that its payer can still confirm."""

    async def declining(_self: Any, reply: Any, _key: str) -> Any:
        return stripe_answers.NOT_CONFIRMED if type(reply) is stripe_answers.ToCancel else reply

    _patch(lambda: stripe.StripeGateway._without_payer, declining)


@_mutation
def _answers_of_other_payments() -> None:
    """Take any answer for that of this payment."""
    _patch(lambda: mapping_shape.HttpMapping.is_about, lambda *_: True)


@_mutation
def _unrequested_answers() -> None:
    """Send a charge on a connection that has an answer already."""
    _patch(lambda: http_client._silent, lambda connection: connection.protocol)


@_mutation
def _impossible_timestamps_believed() -> None:
    """Believe impossible timestamps: a sender that writes 1970 pages the person on call."""
    _patch_import(
        lane_transaction,
        plausible,
        lambda times_ms, _now_ms: np.full(len(times_ms), fill_value=True),
    )


# ---- what is published ----


@_mutation
def _audit_event_dropped() -> None:
    """Drop the audit event of a duplicate."""
    event = publish.Audit.event

    def dropping(self: publish.Audit, event_id: str, source: Any, outcome: Any, at: str) -> Any:
        if getattr(outcome, "event_type", None) is EventType.DUPLICATE:
            return None
        return event(self, event_id, source, outcome, at)

    _patch(lambda: publish.Audit.event, dropping)


@_mutation
def _event_ids_at_random() -> None:
    """Give the same record another event id each time."""
    _patch(lambda: events.Records.event_id, lambda *_: str(uuid.uuid4()))


@_mutation
def _money_as_a_float() -> None:
    """Publish amounts as binary floats would have them."""
    processed = events.processed

    def rounded(event_id: Any, origin: Any, request: Any, *rest: Any) -> events.ProcessedEvent:
        event = processed(event_id, origin, request, *rest)
        return structs.replace(event, amount=Raw(repr(float(request.amount)).encode()))

    _patch(lambda: events.processed, rounded)


@_mutation
def _group_offset_without_its_records() -> None:
    """Commit the group's offset without how far the lanes are: only a snapshot has it then."""

    def epoch_closed(self: group_offset.GroupOffset, position: int, _records_end: int) -> None:
        self._durable = position, 0

    _patch(lambda: group_offset.GroupOffset.epoch_closed, epoch_closed)


# ---- what nothing may depend on ----


@_dispensable
def _no_group_offsets() -> None:
    """Never commit a position for the group."""

    def only_report(self: group_offset.GroupOffset, **_: Any) -> None:
        durable, self._durable = self._durable, None
        if durable is not None:
            self._status.partitions.committed_at(self._partition, durable[0])

    _patch(lambda: group_offset.GroupOffset._commit, only_report)
