"""The start of an input partition, or the reason to refuse it: payments would be lost or repeated.

Two positions are kept: the snapshot's, in the recovery store, and that of the group, at
Kafka. The later of those that can be believed counts, since the lanes have committed all below
either. Both may be missing or old: whatever a lane has committed beyond the position it drops when
it is read again, as its log has it. But only a lane that still has the ids it had then can: so an
old copy of the store must not take the start back to before `LANES` was changed.

1. A position is believed if it is of this topic (and not of one that had its name before), and the
   records after it are there. What Kafka has deleted is not known: even if that were markers and
   aborted records only, it is refused. A running flow moves its position past them, and stops so.
   Another service may have moved the group on from there, after a roll-back: refuse.
2. No position is believed, but there were some: refuse, and name what is wrong with each.
3. There is no position, and a lane has no offset of the partition either, though every lane had
   one once (`Metadata.partitions`): refuse. Kafka forgets the offset of each partition by itself;
   to start at the front would decide everything in it again.
4. There is no position, but a lane's group has offsets: the previous run ended before its first
   epochs were durable, or the group was lost. Start at the front; the lanes drop what they
   have committed.
5. The partition is new, or the whole flow is: start at the front.
6. Each position has with it how far the lanes had committed. If they have committed less by now,
   their offsets were lost: refuse. A crash may have left some of them further ahead than others.
   No crash leaves a snapshot ahead: the engine rewrites those of an epoch that was cut off.
7. There is no position at all, but something was published: refuse. The offsets have expired, or
   the topics were copied from another cluster; to start at the front would charge everything again.

Where it refuses by 2, 3 or 7, an explicit `KAFKA_START` decides. It never overrides a position.
"""

import threading
from collections.abc import Iterator

import structlog
from confluent_kafka import KafkaException
from msgspec import Struct

from dataflow.config.settings import KafkaSettings, Settings
from dataflow.core.state import SourceState
from dataflow.errors import ConsumeError, StartRefusedError
from dataflow.kafka.lane_names import Metadata, lane_group
from dataflow.kafka.lane_offsets import Committed, Offset
from dataflow.kafka.retry import Retry, retry_briefly
from dataflow.kafka.start_facts import StartFacts
from dataflow.process_context import Cluster

_log = structlog.get_logger()


class ResumePoint(Struct, frozen=True):
    """The position to start from."""

    offset: int
    began_at: int
    """The offset at which reading began when there was no position yet."""
    end_offset: int
    """The end of the partition when it was looked up..."""
    looked_at_ms: int
    """... no earlier than this, in milliseconds since 1970."""
    lanes: int | None = None
    """The number of lanes of the previous run, as far as is known."""
    durable: int | None = None
    """From the position, if it has that: up to here the lanes must have committed."""
    what: str = ""
    """The position that it is from."""

    def check(self, committed: Committed, kafka: KafkaSettings, partition: int) -> None:
        """Refuse a position that is ahead of what its own lanes have committed."""
        if self.durable is None or self.durable <= max(committed.highest, self.began_at):
            return
        group, topic = lane_group(kafka.group_id, 0), kafka.topic_requested
        raise StartRefusedError(
            f"{topic}[{partition}]: {self.what} stands at {self.durable}, but the lanes have only"
            f" committed up to {committed.highest}: the offsets of the groups"
            f" {kafka.group_id}.lane-* have expired or were reset. If the flow was stopped"
            " cleanly, or no event in the output topics is of a record at or above"
            f" {self.durable}, set the offset of one group:\n kafka-consumer-groups.sh"
            f" --group {group} --topic {topic}:{partition} --reset-offsets --to-offset"
            f" {self.durable} --execute --bootstrap-server {kafka.brokers}"
        )


class _Position(Struct, frozen=True):
    """A position that was kept, before it is believed."""

    what: str
    offset: int
    metadata: Metadata
    began_at: int
    durable: int | None = None


class ResumePoints:
    """The search for the starts of all partitions of a process; safe to use by several workers."""

    def __init__(self, settings: Settings, cluster: Cluster, retry: Retry = retry_briefly) -> None:
        self._kafka = settings.kafka
        self._chosen = settings.start
        self._cluster = cluster
        self._topic = self._kafka.topic_requested
        self._lock = threading.Lock()
        self._facts = StartFacts(settings, cluster, retry)

    def find(self, partition: int, state: SourceState | None) -> ResumePoint:
        """Return where to start, with or without a snapshot.

        Raises:
            StartRefusedError: going on would lose or repeat payments.
            ConsumeError: Kafka did not answer.
        """
        if state is not None:
            _refuse_foreign(state, self._kafka, self._cluster)
        with self._lock:
            try:
                return self._find(partition, state)
            except KafkaException as error:
                raise ConsumeError(
                    f"{self._topic}[{partition}]: cannot find out where to start:"
                    f" {error.args[0].str()}"
                ) from error

    def _find(self, partition: int, state: SourceState | None) -> ResumePoint:
        if state is None and not self._is_added(partition) and self._facts.members:
            raise StartRefusedError(self._in_use())
        # In this order: a run that is not fenced yet may still commit what was sent meanwhile.
        kept = list(self._kept(partition, state))
        looked_at_ms, ends = self._facts.ends
        low, high = self._facts.low[partition], ends[partition]
        problems, believed = [], []
        for position in kept:
            problem = self._problem(position, low, high)
            if problem is None:
                believed.append(position)
            else:
                problems.append(problem)
        if not kept and (problem := self._lost(partition)):
            problems.append(problem)
        if believed:
            self._refuse_overtaken(partition, believed[0])
            latest = max(believed, key=lambda each: each.offset)
            # An old copy of the store may be from before reading began elsewhere, by `KAFKA_START`.
            furthest = max(believed, key=lambda each: each.durable or -1)
            return ResumePoint(
                offset=latest.offset,
                began_at=furthest.began_at,
                end_offset=high,
                looked_at_ms=looked_at_ms,
                lanes=latest.metadata.lanes,
                durable=furthest.durable,
                what=furthest.what,
            )
        if not problems and (self._facts.has_run_before or not self._facts.has_published):
            offset = low
        else:
            offset = self._explicit(partition, problems, low, high)
        return ResumePoint(
            offset=offset, began_at=offset, end_offset=high, looked_at_ms=looked_at_ms
        )

    def _kept(self, partition: int, state: SourceState | None) -> Iterator[_Position]:
        if state is not None:
            yield _Position(
                "the snapshot",
                max(state.next_offset, state.position),
                Metadata(state.lanes, state.topic_id),
                state.start_offset,
                state.next_offset,
            )
        if partition in self._facts.group_offsets:
            offset, metadata = self._facts.group_offsets[partition]
            what = f"the committed offset of group {self._kafka.group_id}"
            began_at = offset if metadata.began is None else metadata.began
            yield _Position(what, offset, metadata, began_at, metadata.records)

    def _problem(self, position: _Position, low: int, high: int) -> str | None:
        """Return why a position cannot be believed, if so."""
        if not position.metadata.is_of(self._cluster.topic_id):
            return f"{position.what} is of a topic of this name that was deleted since"
        if position.offset > high:
            return (
                f"{position.what} stands at {position.offset}, beyond the end at {high} (was the"
                " topic recreated?)"
            )
        if position.offset < low:
            return (
                f"{position.what} stands at {position.offset}, but retention has deleted everything"
                f" below {low}: {low - position.offset} offsets were never read, from"
                f" {position.offset} to {low - 1}"
            )
        return None

    def _is_added(self, partition: int) -> bool:
        """Return whether all other partitions have an offset of ours, as in a running flow."""
        others = self._facts.group_offsets.values()
        return (
            partition not in self._facts.group_offsets
            and len(others) > 0
            and all(metadata.lanes is not None for _, metadata in others)
        )

    def _lost(self, partition: int) -> str | None:
        """Return why a partition without a position is not a new one, if so."""
        marks = [
            metadata
            for offsets in self._facts.by_lane.values()
            for _, metadata in offsets.values()
            if metadata.partitions > partition
        ]
        # The offsets of lanes that are no longer used may expire.
        lanes = min((metadata.lanes or 0 for metadata in marks), default=0)
        missing = [lane for lane in range(lanes) if partition not in self._facts.by_lane[lane]]
        if not missing:
            return None
        group = self._kafka.group_id
        return (
            f"there is neither a snapshot nor an offset of group {group}, and {len(missing)} of the"
            f" {lanes} lanes have no offset of it either, though all of them had one: the offsets"
            " of this partition have expired, or were deleted"
        )

    def _in_use(self) -> str:
        """Explain who reads the requests already.

        Only looked at without a snapshot, as at a cut-over: later, a stray reader in our group does
        not keep the payments from being decided, nor does it when a partition is added.
        """
        group = self._kafka.group_id
        return (
            f"KAFKA_GROUP_ID: group {group} has members ({', '.join(self._facts.members)}): another"
            " service reads the requests, and both would charge every payment. Stop it, wait"
            " until its members are gone (up to a minute if it was killed), and start again:\n"
            f"  kafka-consumer-groups.sh --describe --group {group} --state"
            f" --bootstrap-server {self._kafka.brokers}"
        )

    def _refuse_overtaken(self, partition: int, position: _Position) -> None:
        """Refuse where another service has gone on from where this one stopped.

        Our own commits hold how many lanes there are, and are never ahead of a snapshot's records.
        """
        offset, metadata = self._facts.group_offsets.get(partition, Offset(0, Metadata()))
        if offset <= position.offset or metadata.lanes is not None:
            return
        group, topic = self._kafka.group_id, self._topic
        raise StartRefusedError(
            f"{topic}[{partition}]: {position.what} stands at {position.offset}, but another"
            f" service or tool has moved group {group} on to {offset}. If a service has handled the"
            " records in between, as after a roll-back, start with an empty recovery directory: to"
            " resume from the snapshot would charge them again. If not, set the group's offset"
            " back:\n"
            f" kafka-consumer-groups.sh --group {group} --topic {topic}:{partition}"
            f" --reset-offsets --to-offset {position.offset} --execute --bootstrap-server"
            f" {self._kafka.brokers}"
        )

    def _explicit(self, partition: int, problems: list[str], low: int, high: int) -> int:
        """Return the offset that `KAFKA_START` gives, or raise a refusal."""
        chosen = self._chosen
        offsets = {"earliest": low, "latest": high}
        offset = offsets.get(chosen) if isinstance(chosen, str) else (chosen or {}).get(partition)
        where = f"{self._topic}[{partition}]"
        why = "; ".join(problems) or (
            f"there is no position of any kind, neither a snapshot nor an offset of group"
            f" {self._kafka.group_id} or of its lanes, but something was published already: the"
            " offsets have expired, the group was renamed, or the topics are another cluster's"
        )
        if offset is None:
            raise StartRefusedError(
                f"{where}: {why}. Find out from which record on nothing was decided, and set for"
                f" this one start: KAFKA_START={partition}=<offset> (or several:"
                f" {partition}=<offset>,...), KAFKA_START=earliest (here {low}), or"
                f" KAFKA_START=latest (here {high})."
            )
        if not low <= offset <= high:
            raise StartRefusedError(
                f"{where}: KAFKA_START is {offset}, but the partition has offsets from {low} to"
                f" {high}; example: KAFKA_START={partition}={low}"
            )
        _log.warning(
            "start offset taken from KAFKA_START", partition=partition, offset=offset, why=why
        )
        return offset


def _refuse_foreign(state: SourceState, kafka: KafkaSettings, cluster: Cluster) -> None:
    ours = {
        "cluster": (state.cluster, cluster.cluster_id),
        "topic": (state.topic, kafka.topic_requested),
        "group": (state.group, kafka.group_id),
    }
    differences = [
        f"{what} {theirs!r}, not {mine!r}"
        for what, (theirs, mine) in ours.items()
        if theirs != mine
    ]
    if differences:
        raise StartRefusedError(
            f"The recovery directory belongs to another flow: {', '.join(differences)}. Point"
            " BYTEWAX_RECOVERY_DIRECTORY at this flow's own directory, or at an empty one: the"
            " start then resumes from the offsets of its groups."
        )
