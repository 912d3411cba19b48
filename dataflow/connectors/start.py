"""Where an input partition starts: at its snapshot, at the plain group's offset, or at the front.

And when it does not start: each refusal is a case in which going on would lose or repeat a payment.
"""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec import Struct

from dataflow.connectors import config
from dataflow.connectors.cluster import Cluster
from dataflow.connectors.names import lane_group, lanes_in
from dataflow.connectors.offsets import Committed
from dataflow.connectors.patience import Ask, patiently
from dataflow.errors import ConsumeError, StartRefusedError
from dataflow.settings import KafkaSettings
from schemas.state import SourceState

_TIMEOUT_S = 10.0
_NO_MEMBERS = {
    KafkaError.GROUP_ID_NOT_FOUND,
    # Of a Kafka too old or too small to say: then it is left to the operator.
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001  (local codes have no public names)
}
"""What a question for a group's members may be answered with, if it has none that we could see."""


class Start(Struct, frozen=True):
    """Where to start."""

    offset: int
    began_at: int
    """Where reading began when there was no snapshot yet."""
    lanes: int | None
    """How many lanes the previous run had, as far as is known."""
    from_snapshot: bool

    def check(self, committed: Committed, kafka: KafkaSettings, partition: int) -> None:
        """Refuse a snapshot that is ahead of what its own lanes have committed."""
        if not self.from_snapshot or self.offset <= max(committed.highest, self.began_at):
            return
        group, topic = lane_group(kafka.group_id, 0), kafka.topic_requested
        raise StartRefusedError(
            f"{topic}[{partition}]: the snapshot stands at {self.offset}, but the lanes have only"
            f" committed up to {committed.highest}. Either this is another cluster or a recreated"
            " topic: then start with an empty recovery directory. Or the offsets of the groups"
            f" {kafka.group_id}.lane-* have expired or were reset: then, if you are sure that"
            " everything below was published, put one back:\n  kafka-consumer-groups.sh"
            f" --group {group} --topic {topic}:{partition} --reset-offsets --to-offset"
            f" {self.offset} --execute --bootstrap-server {kafka.brokers}"
        )


def find_start(
    consumer: Consumer,
    kafka: KafkaSettings,
    cluster: Cluster,
    partition: int,
    state: SourceState | None,
    ask: Ask = patiently,
) -> Start:
    """Where to start, with or without a snapshot.

    Raises:
        StartRefusedError: the snapshot is foreign, or the records after it are gone, or another
            service is at work.
        ConsumeError: Kafka did not answer.
    """
    where = TopicPartition(kafka.topic_requested, partition)
    try:
        low, high = ask(lambda: consumer.get_watermark_offsets(where, timeout=_TIMEOUT_S))
        # In this order: a member that has left commits no more.
        members = [] if state else ask(lambda: _members(kafka))
        plain = ask(lambda: consumer.committed([where], timeout=_TIMEOUT_S))[0]
    except KafkaException as error:
        raise ConsumeError(
            f"{kafka.topic_requested}[{partition}]: cannot find out where to start:"
            f" {error.args[0].str()}"
        ) from error
    if members:
        raise StartRefusedError(_in_use(kafka, members))
    if state is not None:
        _refuse_foreign(state, kafka, cluster)
        start = Start(state.next_offset, state.start_offset, state.lanes, from_snapshot=True)
        found = "the snapshot"
    elif plain.offset >= 0:
        start = Start(plain.offset, plain.offset, lanes_in(plain.metadata), from_snapshot=False)
        found = f"the committed offset of group {kafka.group_id}"
    else:
        return Start(low, low, None, from_snapshot=False)
    if not low <= start.offset <= high:
        raise StartRefusedError(_out_of_range(where, kafka, start.offset, found, (low, high)))
    if start.from_snapshot and plain.offset > start.offset and lanes_in(plain.metadata) is None:
        raise StartRefusedError(_overtaken(plain, kafka, start.offset))
    return start


def _members(kafka: KafkaSettings) -> list[str]:
    """Who is a member of the plain group. We never are: our partitions are assigned."""
    admin = AdminClient(config.client(kafka, "start-check"))
    asked = admin.describe_consumer_groups([kafka.group_id], request_timeout=_TIMEOUT_S)
    try:
        group = asked[kafka.group_id].result()
    except KafkaException as error:
        if error.args[0].code() in _NO_MEMBERS:
            return []
        raise
    return [f"{member.client_id} at {member.host}" for member in group.members]


def _in_use(kafka: KafkaSettings, members: list[str]) -> str:
    """Explain who reads the requests already.

    Only looked at without a snapshot, as at a cut-over: later, a stray reader in our group does
    not keep the payments from being decided.
    """
    return (
        f"KAFKA_GROUP_ID: group {kafka.group_id} has members ({', '.join(members)}): another"
        " service reads the requests, and every payment would be charged by both. Stop it, wait"
        " until its members are gone (up to a minute if it was killed), and start again:\n"
        f"  kafka-consumer-groups.sh --describe --group {kafka.group_id} --state"
        f" --bootstrap-server {kafka.brokers}"
    )


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
            " BYTEWAX_RECOVERY_DIRECTORY at this flow's own directory, or at an empty one."
        )


def _overtaken(plain: TopicPartition, kafka: KafkaSettings, offset: int) -> str:
    """Explain that another service has gone on from where this one stopped.

    Our own commits say how many lanes there are, and are never ahead of a snapshot's records.
    """
    return (
        f"{plain.topic}[{plain.partition}]: the snapshot stands at {offset}, but another service or"
        f" tool has moved group {kafka.group_id} on to {plain.offset}. If a service has handled the"
        " records in between, as after a roll-back, start with an empty recovery directory (the"
        " paymentIds seen so far are forgotten): to go on from the snapshot would charge them"
        " again. If nothing has, put the group back:\n"
        f"  kafka-consumer-groups.sh --group {kafka.group_id} --topic"
        f" {plain.topic}:{plain.partition} --reset-offsets --to-offset {offset} --execute"
        f" --bootstrap-server {kafka.brokers}"
    )


def _out_of_range(
    where: TopicPartition, kafka: KafkaSettings, offset: int, found: str, log: tuple[int, int]
) -> str:
    low, high = log
    if offset > high:
        what = f"{found} stands at {offset}, beyond the end at {high}: was the topic recreated?"
    else:
        what = (
            f"{found} stands at {offset}, but retention has deleted everything below {low}:"
            f" {low - offset} offsets were never read."
        )
    return (
        f"{where.topic}[{where.partition}]: {what} To go on from {low} all the same, start with"
        " an empty recovery directory (the paymentIds seen so far are forgotten) after\n "
        f" kafka-consumer-groups.sh --group {kafka.group_id} --topic"
        f" {where.topic}:{where.partition} --reset-offsets --to-offset {low} --execute"
        f" --bootstrap-server {kafka.brokers}"
    )
