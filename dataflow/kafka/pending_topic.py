"""The pending topic at Kafka, read back at a start: the payments that wait for the gateway.

1. It is read only once all lanes are fenced; a process reads all of it once, for all of its lanes.
   A lane takes what hashes to it, whichever lane has written it, so `LANES` may have been another.
2. Of each eventId the last record counts; a tombstone ends it.
3. Another topic of this name has not what was parked. To go on without it would leave payments
   undecided for ever, some of them charged: that is refused.
4. A person's decision about a payment is on the same topic, by another key. It is handed over to
   the payment's lane, at the start or when it comes (`dataflow.kafka.decision_reader`).
5. A record that no lane has written is passed over, with a warning: a client with write access must
   not be able to stop every start. One that a lane may have written, and that cannot be read, is
   refused.
6. An entry of another request topic is refused: two flows that share a pending topic would charge
   each other's payments, and each end the other's entries.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

import structlog
from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import AdminClient

from dataflow.core.fenced import Fenced
from dataflow.core.lane_log import is_of_a_lane, lane_in, without_the_lane
from dataflow.core.lanes import lane_of_key
from dataflow.core.parked import Restored
from dataflow.core.persons_decisions import DecisionInbox
from dataflow.errors import StartRefusedError
from dataflow.kafka import client_config, lane_marks
from dataflow.kafka.decision_reader import DecisionReader, take
from dataflow.kafka.lane_offsets import LaneOffsets
from dataflow.kafka.partition_offsets import EARLIEST, LATEST, offsets_at
from dataflow.kafka.record_headers import headers_of
from dataflow.kafka.retry import Retry, retry_briefly
from dataflow.kafka.topic_reader import TopicReader
from dataflow.process_context import ProcessContext
from schemas import pending
from schemas.decisions import PersonsDecision, is_decision
from schemas.pending import PendingEntry
from schemas.requests import key_of

_log = structlog.get_logger()
PARTITION = 0
"""The only partition in use: by their key, an entry and its tombstone would be in two of them once
partitions are added, and compaction, and this reader, would miss that they belong together."""
_WAIT_S = 3600.0


class PendingTopic:
    """The pending topic, as the lanes of one process read it."""

    def __init__(
        self,
        context: ProcessContext,
        offsets: LaneOffsets,
        retry: Retry = retry_briefly,
        sit_out: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._kafka = context.settings.kafka
        self._topic = self._kafka.topic_pending
        self._lanes = context.settings.lanes
        self._status = context.status
        self._id = context.cluster.pending_id
        self._offsets = offsets
        self._retry = retry
        self._reader = TopicReader(context, self._topic, sit_out)
        self._lock = threading.Lock()
        self._by_lane: dict[int, list[Restored]] | None = None
        self._inbox = DecisionInbox(self._lanes)
        self._decisions: dict[int, deque[PersonsDecision]] = {}
        self._wake = context.charging.wake
        self._status.await_pending()

    def of(self, lane: int, fenced: Fenced) -> Sequence[Restored]:
        """Return what is pending in a lane.

        Raises:
            StartRefusedError: the topic is not the one that was written, or cannot be read.
            ConsumeError: Kafka did not answer.
        """
        with self._lock:
            if self._by_lane is None:
                with self._status.waiting("pending payments", _WAIT_S):
                    self._by_lane = self._read(fenced)
                self._status.pending_read()
            return self._by_lane.pop(lane, [])

    def decisions(self, lane: int) -> Sequence[PersonsDecision]:
        """Return the decisions of persons that have come for a lane since the last call."""
        found = self._decisions.get(lane)
        return [found.popleft() for _ in range(len(found))] if found else ()

    def _deliver(self, found: Mapping[int, Sequence[PersonsDecision]]) -> None:
        """Hand over decisions to the lanes; those of other processes have readers of their own."""
        for lane, decisions in found.items():
            self._decisions.setdefault(lane, deque()).extend(decisions)
        self._wake(found)

    def _read(self, fenced: Fenced) -> dict[int, list[Restored]]:
        self._refuse_another_topic(self._offsets.all(fenced))
        admin = AdminClient(client_config.client(self._kafka, "pending"))
        starts = self._retry(lambda: offsets_at(admin, self._topic, [PARTITION], EARLIEST))
        ends = self._retry(lambda: offsets_at(admin, self._topic, [PARTITION], LATEST))
        values: dict[bytes | None, Message] = {}
        records = 0
        for messages, _ in self._reader.read(starts, ends):
            records += len(messages)
            for message in messages:
                self._take(message, values)
        found: defaultdict[int, list[Restored]] = defaultdict(list)
        for message in values.values():
            headers = without_the_lane(headers_of(message))
            restored = Restored(self._entry(message), headers)
            found[lane_of_key(key_of(restored.entry.payment_id), self._lanes)].append(restored)
        where = TopicPartition(self._topic, PARTITION, ends[PARTITION])
        DecisionReader(self._kafka, where, self._inbox, self._deliver).start()
        _log.info("pending payments read", records=records, pending=len(values))
        return dict(found)

    def _take(self, message: Message, values: dict[bytes | None, Message]) -> None:
        if is_decision(message.key()):
            take(self._inbox, message)
        elif not is_of_a_lane(headers_of(message)):
            _log.warning(
                "the pending topic has a record that no lane has written: it is passed over; see"
                " who may write to the topic",
                topic=self._topic,
                partition=message.partition(),
                offset=message.offset(),
            )
        elif message.value() is None:
            values.pop(message.key(), None)
        else:
            values[message.key()] = message

    def _entry(self, message: Message) -> PendingEntry:
        where = f"{self._topic}[{message.partition()}] at {message.offset()}"
        try:
            lane_in(headers_of(message))
            entry = pending.decode(message.value() or b"")
        except ValueError as error:
            raise StartRefusedError(
                f"{where}: it has the headers of a lane, but is no entry that this version can"
                f" read: {error}. If a newer version of this flow has written it, start that: the"
                " payment would stay undecided"
            ) from error
        if entry.source.topic != self._kafka.topic_requested:
            raise StartRefusedError(
                f"{where}: this payment waits for the gateway, and is of the topic"
                f" {entry.source.topic}, not {self._kafka.topic_requested}. If another flow reads"
                " that topic, set KAFKA_TOPIC_PENDING: each flow needs a pending topic of its own."
                " If KAFKA_TOPIC_REQUESTED was changed, start with its former value until"
                " payments_pending is 0"
            )
        return entry

    def _refuse_another_topic(self, committed: lane_marks.Committed) -> None:
        theirs = lane_marks.pending_ids(committed)
        if self._id is None or not theirs - {self._id}:
            return
        raise StartRefusedError(
            f"topic {self._topic}: it was deleted and created again since the lanes committed last"
            f" (its id was {', '.join(sorted(theirs))}, and is {self._id}): the payments that"
            " waited for the gateway are gone, and some may be charged. Restore the topic if you"
            " can. To go on without it, find their records in the request topic: those without an"
            " event in the audit topic (payments verify counts them). Decide each with the"
            " provider, then set the lanes' offsets to their current values, which deletes the"
            " metadata next to them (docs/start-refusals.md, *Pending topic*):\n"
            + lane_marks.commands_to_delete(committed, self._kafka)
        )
