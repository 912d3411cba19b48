"""The Kafka cluster as a whole: can we work with it, is it there, has the input grown."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource

from dataflow.connectors import config
from dataflow.connectors.bounds import LATEST
from dataflow.errors import StartRefusedError
from dataflow.lifecycle import Lifecycle
from dataflow.settings import KafkaSettings
from dataflow.status import Status

_log = structlog.get_logger()

_START_TIMEOUT_S = 15.0
_POLL_S = 0.1
_CONFIG_TIMEOUT_S = 1.5
_WATCH_EVERY_S = 5.0


class Cluster(NamedTuple):
    """What is known of the cluster at the start."""

    cluster_id: str
    partitions: list[int]
    """Partitions of the request topic, ascending."""


def inspect(kafka: KafkaSettings) -> Cluster:
    """Look whether the cluster can be reached, lets us in, and has our topics.

    Raises:
        StartRefusedError: it does not; the message names the variable that may be wrong.
    """
    errors: list[KafkaError] = []
    # That a broker hangs up is no error to the client, only a line in its log.
    said = _Said()
    client = config.client(kafka, "start-check") | {
        "error_cb": errors.append,
        "logger": said,
        "log.connection.close": True,
    }
    try:
        admin = AdminClient(client)
    except KafkaException as error:
        raise StartRefusedError(f"Kafka client: {error.args[0].str()}") from error
    metadata = _metadata(admin, kafka, errors, said)
    wanted = [kafka.topic_requested, kafka.topic_processed, kafka.topic_failed, kafka.topic_audit]
    problems = [
        f"topic {name}: {_topic_problem(metadata, name)}"
        for name in wanted
        if _topic_problem(metadata, name)
    ]
    problems = problems or list(_unfit(admin, kafka))
    if problems:
        raise StartRefusedError("\n".join(problems))
    partitions = sorted(metadata.topics[kafka.topic_requested].partitions)
    return Cluster(metadata.cluster_id or "", partitions)


class _Said:
    """A client's logger that only keeps the last hang-up."""

    hangup: str | None = None

    def log(self, _level: int, line: str, *args: object) -> None:
        """Take a line from the client."""
        text = line % args
        if "Disconnected" in text:
            self.hangup = text.rpartition("]: ")[2]


def _unfit(admin: AdminClient, kafka: KafkaSettings) -> Iterator[str]:
    """Output topics that would refuse some of our records, and so end the process each time."""
    outputs = [kafka.topic_processed, kafka.topic_failed, kafka.topic_audit]
    wanted = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in outputs]
    answers = admin.describe_configs(wanted, request_timeout=_CONFIG_TIMEOUT_S)
    for resource, answer in answers.items():
        try:
            found = answer.result()
            most, cleanup = int(found["max.message.bytes"].value), found["cleanup.policy"].value
        except (KafkaException, KeyError, TypeError, ValueError) as error:
            # Not everybody may read it.
            _log.debug("topic settings are not known", topic=resource.name, error=str(error))
            continue
        if most < kafka.message_max_bytes:
            yield (
                f"topic {resource.name}: takes records of at most {most} bytes"
                f" (max.message.bytes), less than KAFKA_MESSAGE_MAX_BYTES"
                f" ({kafka.message_max_bytes}); raise the one, or lower the other"
            )
        if "compact" in cleanup:
            yield (
                f"topic {resource.name}: is compacted (cleanup.policy={cleanup}), so it refuses"
                " records without a key, as those of requests without a readable paymentId are; and"
                " of a payment's events it would keep the last one only. Let it delete by age:\n "
                f" kafka-configs.sh --entity-type topics --entity-name {resource.name} --alter"
                f" --add-config cleanup.policy=delete --bootstrap-server {kafka.brokers}"
            )


def _metadata(
    admin: AdminClient, kafka: KafkaSettings, errors: list[KafkaError], said: _Said
) -> ClusterMetadata:
    """Metadata of the cluster; an error that no retry can cure is not waited out."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            return admin.list_topics(timeout=1.0)
        except KafkaException as error:
            admin.poll(_POLL_S)
            for found in errors:
                if hint := _hint(found, kafka):
                    raise StartRefusedError(hint) from error
            if time.monotonic() > deadline_s:
                if said.hangup:
                    raise StartRefusedError(
                        f"KAFKA_SECURITY_PROTOCOL ({kafka.security_protocol}): the broker hangs up"
                        f" at the first request; does its listener want TLS or SASL? {said.hangup}"
                    ) from error
                last = errors[-1] if errors else error.args[0]
                raise StartRefusedError(
                    f"KAFKA_BROKERS: no broker of {kafka.brokers} answered within"
                    f" {_START_TIMEOUT_S:g} s; last error: {last.str()}"
                ) from error


def _hint(error: KafkaError, kafka: KafkaSettings) -> str | None:
    """What to look at for an error that stays; None for one that may pass."""
    text = error.str()
    if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001  (no public name)
        return (
            f"KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD or KAFKA_SASL_MECHANISM"
            f" ({kafka.sasl_mechanism}): Kafka refused the login: {text}"
        )
    if error.code() == KafkaError._SSL or "SSL" in text:  # noqa: SLF001  (no public name)
        return (
            f"KAFKA_SSL_CA_LOCATION, KAFKA_BROKERS or KAFKA_SECURITY_PROTOCOL"
            f" ({kafka.security_protocol}): no TLS connection that can be trusted: {text}"
        )
    return None


def _topic_problem(metadata: ClusterMetadata, name: str) -> str | None:
    topic = metadata.topics.get(name)
    if topic is None:
        return "does not exist, or this user may not describe it; create it, or grant DESCRIBE"
    if topic.error is not None:
        return str(topic.error.str())
    return None


class Watcher(threading.Thread):
    """Looks at the cluster every few seconds: for the probes, and for new input partitions."""

    def __init__(
        self,
        kafka: KafkaSettings,
        partitions: int,
        status: Status,
        lifecycle: Lifecycle,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(name="kafka-watcher", daemon=True)
        self._topic = kafka.topic_requested
        self._partitions = partitions
        self._status = status
        self._lifecycle = lifecycle
        self._wait = wait
        self._admin = AdminClient(config.client(kafka, "watcher") | {"log_level": 0})

    def run(self) -> None:
        """Look, until the process ends."""
        while True:
            self._wait(_WATCH_EVERY_S)
            self.look()

    def look(self) -> None:
        """Look once."""
        try:
            topic = self._admin.list_topics(timeout=_WATCH_EVERY_S).topics[self._topic]
        except KafkaException as error:
            self._status.broker_down(error.args[0].str())
            return
        except KeyError:
            return
        self._status.broker_up()
        self._report_ends(list(topic.partitions))
        found = len(topic.partitions)
        if found > self._partitions:
            # Their records are kept by Kafka until then; the engine's partitions are fixed.
            self._lifecycle.request_stop(
                f"{self._topic} has {found} partitions now, not {self._partitions}", restart=True
            )

    def _report_ends(self, partitions: list[int]) -> None:
        """For the lag, and for clients that have stopped fetching: the source cannot see either."""
        ends = self._latest(partitions, IsolationLevel.READ_UNCOMMITTED)
        stable = self._latest(partitions, IsolationLevel.READ_COMMITTED)
        for partition in ends.keys() & stable.keys():
            self._status.partition_ends_at(partition, ends[partition], stable[partition])

    def _latest(self, partitions: list[int], level: IsolationLevel) -> dict[int, int]:
        """Where readers of this level stop; without the partitions that give no answer."""
        wanted = {TopicPartition(self._topic, each): LATEST for each in partitions}
        answers = self._admin.list_offsets(
            wanted, isolation_level=level, request_timeout=_WATCH_EVERY_S
        )
        found = {}
        for where, answer in answers.items():
            try:
                found[where.partition] = answer.result().offset
            except KafkaException as error:
                _log.debug("end offsets", partition=where.partition, error=error.args[0].str())
        return found
