"""The lanes' log at Kafka: read back at a start, and trimmed.

1. It is read by the rules of `dataflow.kafka.topic_reader`.
2. A process reads all partitions once, for all of its lanes, from where its files end; without
   files, from the start. It is no matter which partition a lane used to write to, nor how many
   lanes there were: an entry goes to the lane of its id.
3. What is read goes into the indexes piece by piece, so that memory stays within its bound.
4. What is committed with the lanes' offsets (`lane_names.Metadata`) is what must be remembered. A
   log that was recreated, or that has lost entries, is refused: to go on would charge payments
   again.
5. A record that no lane has written is passed over, with a warning: a client with write access
   must not be able to stop every start. One that a lane may have written, and that cannot be read,
   is refused: it may hold claims.
6. The flow trims the log itself. Below the first record that is not older than the time since when
   all lanes remember anything, no entry counts any more.
"""

import json
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

import structlog
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from dataflow.core.fenced import Fenced
from dataflow.core.lane_log import ENTRY, ForeignRecordError, entries_in, is_of_a_lane, lane_in
from dataflow.core.origins import generation_of
from dataflow.dedupe.read_entries import ReadEntries
from dataflow.dedupe.tiered import TieredIndex
from dataflow.errors import StartRefusedError
from dataflow.kafka import client_config, lane_marks
from dataflow.kafka.lane_offsets import LaneOffsets
from dataflow.kafka.partition_offsets import EARLIEST, LATEST, Ends, offsets_at
from dataflow.kafka.record_headers import headers_of
from dataflow.kafka.retry import Retry, retry_briefly
from dataflow.kafka.topic_reader import TopicReader
from dataflow.observability.restore_progress import Restoring
from dataflow.process_context import ProcessContext

_log = structlog.get_logger()
_PIECE_BYTES = 16 * 1024 * 1024
"""The indexes get so much at once: few and large pieces are quick to take in."""


class LaneLog:
    """The log, as the lanes of one process read it."""

    def __init__(
        self,
        context: ProcessContext,
        offsets: LaneOffsets,
        ends: Ends,
        retry: Retry = retry_briefly,
        sit_out: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._retry = retry
        self._kafka = context.settings.kafka
        self._topic = self._kafka.topic_lane_log
        self._reader = TopicReader(context, self._topic, sit_out)
        self._lanes = context.settings.lanes
        self._cluster = context.cluster
        self.generation = generation_of(context.cluster.topic_id)
        self._offsets = offsets
        self._ends = ends
        self._status = context.status
        self._lock = threading.Lock()
        self._indexes: dict[int, TieredIndex] = {}
        self._committed: lane_marks.Committed = {}
        self._read_to_ends: Mapping[int, int] | None = None

    def expect(self, lane: int, index: TieredIndex) -> None:
        """Register a lane of this process; its history goes into this index."""
        with self._lock:
            self._indexes[lane] = index

    def restore(self, lane: int, fenced: Fenced) -> Mapping[int, int]:
        """Have the history of a lane in its index.

        Returns:
            How far each partition was read: to its end.

        Raises:
            StartRefusedError: the log is not the one that was written, or not all of it.
            ConsumeError: Kafka did not answer.
        """
        with self._lock:
            if self._read_to_ends is None:
                self._read_to_ends = self._read(fenced)
            self._refuse_too_few(lane)
            return self._read_to_ends

    def ends(self) -> Mapping[int, int]:
        """Return where each partition of the log ended at some earlier moment."""
        return self._ends.offsets

    def _refuse_too_few(self, lane: int) -> None:
        index, least = self._indexes[lane], lane_marks.least_ids(self._committed, lane, self._lanes)
        # An index whose files were ahead of that has forgotten more since.
        if index.since_s <= lane_marks.since_s(self._committed, lane) and index.most < least:
            raise StartRefusedError(
                f"topic {self._topic}: it has {index.most} ids of lane {lane}, which had at least"
                f" {least} when it committed last: records were deleted from it. {self._remedy()}"
            )

    def _read(self, fenced: Fenced) -> Mapping[int, int]:
        self._committed = self._offsets.all(fenced)
        self._refuse_another_log()
        for lane, index in self._indexes.items():
            index.forget_before(lane_marks.since_s(self._committed, lane))
        ids = {
            lane: lane_marks.least_ids(self._committed, lane, self._lanes)
            for lane in self._committed
        }
        before = lane_marks.least_before(self._committed, self._lanes)
        expected = max(sum(ids.values()), before)
        if before:
            # Only who reads all of the log sees whether it has what other lanes remembered; and a
            # start that was refused for that has left files, by which the next one would not.
            for index in self._indexes.values():
                if index.position:
                    index.start_over("the number of lanes was changed: all of the log is read")
        ours = sum(ids.get(lane, 0) for lane in self._indexes)
        left = lane_marks.left_to_read(expected, ours, sum(map(len, self._indexes.values())))
        with self._status.restoring(left) as restoring:
            found, is_whole, ends = self._read_from_files_on(restoring, left)
        if is_whole and found < max(before, any(ids.values())):
            raise StartRefusedError(
                f"topic {self._topic}: it has {found or 'no'} ids, though the lanes remembered"
                f" {expected} when they committed last. " + self._remedy()
            )
        return ends

    def _refuse_another_log(self) -> None:
        theirs = lane_marks.log_ids(self._committed)
        if self._cluster.log_id and theirs - {self._cluster.log_id}:
            raise StartRefusedError(
                f"topic {self._topic}: it was deleted and created again since the lanes committed"
                f" last (its id was {', '.join(sorted(filter(None, theirs)))}, and is"
                f" {self._cluster.log_id}): the remembered ids are gone. " + self._remedy()
            )

    def _remedy(self) -> str:
        return (
            "Restore the topic if you can. Otherwise payments rebuild-log --write makes it again"
            " from the outcomes that are still there. To go on without it, set the lanes' offsets"
            " to their current values, which deletes the lanes' metadata beside them. The"
            " paymentIds seen so far are then forgotten, and copies of them are charged again:\n"
            + lane_marks.commands_to_delete(self._committed, self._kafka)
        )

    def _unreadable(self, message: Message, error: str) -> str:
        partition, offset = message.partition(), message.offset() or 0
        below = {"topic": self._topic, "partition": partition, "offset": offset + 1}
        document = shlex.quote(json.dumps({"version": 1, "partitions": [below]}))
        return (
            f"{self._topic}[{partition}] at {offset}: {error}. It has the headers of a lane, so it"
            " may hold paymentIds. If a newer version of this flow has written it, start that."
            " Otherwise delete it, and with it all that is before it in its partition:\n"
            f" echo {document} > lane-log.json\n"
            " kafka-delete-records.sh --offset-json-file lane-log.json --bootstrap-server"
            f" {shlex.quote(self._kafka.brokers)}\n" + self._remedy()
        )

    def _read_from_files_on(
        self, restoring: Restoring, expected: int
    ) -> tuple[int, bool, Mapping[int, int]]:
        """Read what the files do not have.

        Returns:
            How many entries were read, whether that was all of the log, and where it ended.
        """
        admin = AdminClient(client_config.client(self._kafka, "lane-log"))
        partitions = range(self._cluster.log_partitions)
        starts = self._retry(lambda: offsets_at(admin, self._topic, partitions, EARLIEST))
        # Nobody writes: it is how far a `read_committed` reader gets, too.
        ends = self._retry(lambda: offsets_at(admin, self._topic, partitions, LATEST))
        begins = self._begins(starts, ends)
        found, size, parts = 0, 0, ReadEntries(self._indexes, self._lanes)
        for messages, position in self._reader.read(begins, ends):
            for message in self._ours(messages):
                entries = self._take(message, parts)
                size, found = size + entries * ENTRY.itemsize, found + entries
                if found > expected:
                    # Ids that were prolonged or forgotten; and all of them if nothing was known.
                    restoring.expect(found - expected)
                    expected = found
                restoring.advance(entries)
            if size >= _PIECE_BYTES:
                parts.hand_over(position)
                size = 0
        parts.hand_over(ends)
        self._ends.offsets = ends
        _log.info("lane log read", entries=found, begins=begins, ends=ends)
        return found, begins == starts, ends

    def _begins(self, starts: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
        """Return where to read each partition from: where the first of the lanes' files end."""
        for index in self._indexes.values():
            beyond = {p: at for p, at in index.position.items() if at > ends.get(p, 0)}
            if beyond:
                index.start_over(f"they reach beyond the end of the lane log: {beyond}")
        positions = [index.position for index in self._indexes.values()]
        lowest = {p: min(each.get(p, 0) for each in positions) for p in starts}
        return {p: max(start, lowest[p]) for p, start in starts.items()}

    def _take(self, message: Message, parts: ReadEntries) -> int:
        """Add a record to the parts of its lane; return how many entries it has."""
        value = message.value() or b""
        try:
            lane, lanes = lane_in(headers_of(message))
            count = len(entries_in(value))
        except ForeignRecordError as error:
            raise StartRefusedError(self._unreadable(message, str(error))) from error
        parts.add(lane if lanes == self._lanes else None, value)
        return count

    def _ours(self, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            if is_of_a_lane(headers_of(message)):
                yield message
            else:
                self._pass_over(message)

    def _pass_over(self, message: Message) -> None:
        if self._status.foreign_log_records == 0:
            _log.warning(
                "the lane log has a record that no lane has written: it is passed over, as all of"
                " its kind; see who may write to the topic",
                topic=self._topic,
                partition=message.partition(),
                offset=message.offset(),
            )
        self._status.passed_over()
