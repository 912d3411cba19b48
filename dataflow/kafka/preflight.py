"""Before a start: whether Kafka can be reached, lets us in, and has our topics as they must be."""

import time
from collections.abc import Callable, Iterator, Mapping

import structlog
from confluent_kafka import (
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource

from dataflow.config.settings import KafkaSettings
from dataflow.errors import StartRefusedError
from dataflow.kafka import client_config
from dataflow.kafka.client_check import check_properties
from dataflow.kafka.connection_hints import hint_for
from dataflow.kafka.retry import passes, retry_briefly
from dataflow.process_context import Cluster

_log = structlog.get_logger()

_START_TIMEOUT_S = 15.0
"""The time for which no broker may answer, before that is refused."""
_HANGUPS_APART_S = 10.0
"""Further apart, they are not the answer of a listener that wants something else of us."""
_POLL_S = 0.1
_CONFIG_TIMEOUT_S = 5.0
_IDS_TIMEOUT_S = 5.0
_FORBIDDEN = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
_AHEAD = "message.timestamp.after.max.ms"
LANE_LOG_CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    _AHEAD: "3600000",
}
"""The settings that the topic of the lanes' log needs: ids are remembered for a window and for as
long as the flow lags behind, which no limit of Kafka's can follow. The last one is the most: by it
a clock that is far ahead is noticed (`dataflow.core.watermarks`). It is the default of Kafka 4;
before, there is no limit by default (KIP-937, KIP-1030)."""
PENDING_CONFIG = {"cleanup.policy": "compact"}
"""That of the pending topic: an entry stays until its tombstone, and is replaced by a newer one."""


SitOut = Callable[[str], None]
"""A callback with the reason why the flow waits for Kafka, about once a second."""


def inspect(kafka: KafkaSettings, sit_out: SitOut | None = None) -> Cluster:
    """Look whether the cluster can be reached, lets us in, and has our topics.

    Args:
        kafka: Where, and as whom.
        sit_out: Called about once a second with the reason, as long as no broker answers; without
            it that is refused after a while.

    Raises:
        StartRefusedError: a person must mend it; the message names the variable that may be wrong.
    """
    check_properties(kafka)
    met = _Met()
    client = client_config.client(kafka, "start-check") | {
        "error_cb": met.on_error,
        "logger": met,
        "log.connection.close": True,
    }
    try:
        admin = AdminClient(client)
    except KafkaException as error:
        hint = hint_for(error.args[0], kafka)
        raise StartRefusedError(hint or f"Kafka client: {error.args[0].str()}") from error
    metadata = _metadata(admin, kafka, met, sit_out)
    wanted = [kafka.topic_requested, *kafka.topics_written]
    problems = [
        f"topic {name}: {_topic_problem(metadata, name)}"
        for name in wanted
        if _topic_problem(metadata, name)
    ]
    if problems:
        raise StartRefusedError("\n".join(problems))
    ids: dict[str, str] = {}
    if metadata.controller_id in metadata.brokers:
        if problems := list(_unfit(admin, kafka, sit_out)):
            raise StartRefusedError("\n".join(problems))
        ids = _topic_ids(admin, [kafka.topic_requested, kafka.topic_lane_log, kafka.topic_pending])
    else:
        # The embedded broker of the demo has none.
        _log.warning(
            "no controller: neither a recreated topic nor wrong settings of a topic can be detected"
        )
    return Cluster(
        metadata.cluster_id or "",
        sorted(metadata.topics[kafka.topic_requested].partitions),
        ids.get(kafka.topic_requested),
        ids.get(kafka.topic_lane_log),
        len(metadata.topics[kafka.topic_lane_log].partitions),
        ids.get(kafka.topic_pending),
    )


class _Met:
    """The events that a client has met on its way to a broker; it is the client's logger, too.

    That a broker hangs up is no error to the client, only a line in its log.
    """

    def __init__(self) -> None:
        self.errors: list[KafkaError] = []
        self.last: KafkaError | None = None
        self.hangup: str | None = None
        self._hangups_s = (0.0, 0.0)  # when those without a long pause began, and the last one

    def on_error(self, error: KafkaError) -> None:
        """Take an error; that all brokers are down gives no reason."""
        self.errors.append(error)
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  (no public name)
            self.last = error

    def log(self, _level: int, line: str, *args: object) -> None:
        """Take a line from the client."""
        text = line % args
        if "Disconnected" in text:
            first_s, last_s = self._hangups_s
            now_s = time.monotonic()
            self._hangups_s = (first_s if now_s - last_s < _HANGUPS_APART_S else now_s, now_s)
            self.hangup = text.rpartition("]: ")[2]

    def hangs_up_for_s(self) -> float:
        """Return for how long a broker has done nothing but hang up."""
        first_s, last_s = self._hangups_s
        is_past = time.monotonic() - last_s > _HANGUPS_APART_S
        return 0.0 if self.hangup is None or is_past else time.monotonic() - first_s


def _topic_ids(admin: AdminClient, topics: list[str]) -> dict[str, str]:
    collection = TopicCollection(topics)

    def ask() -> dict[str, str]:
        found = admin.describe_topics(collection, request_timeout=_IDS_TIMEOUT_S)
        return {topic: str(each.result().topic_id) for topic, each in found.items()}

    try:
        return retry_briefly(ask)
    except KafkaException as error:
        raise StartRefusedError(
            f"topics {', '.join(topics)}: their ids cannot be read: {error.args[0].str()}"
        ) from error


def _unfit(admin: AdminClient, kafka: KafkaSettings, sit_out: SitOut | None) -> Iterator[str]:
    """Yield the topics that would end the process each time, or forget what is written to them."""
    for topic, found in _topic_configs(admin, kafka, sit_out).items():
        most = int(found.get("max.message.bytes") or kafka.message_max_bytes)
        cleanup = found.get("cleanup.policy") or ""
        if most < kafka.message_max_bytes:
            yield (
                f"topic {topic}: accepts records of at most {most} bytes"
                f" (max.message.bytes), less than KAFKA_MESSAGE_MAX_BYTES"
                f" ({kafka.message_max_bytes}); raise max.message.bytes, or lower"
                " KAFKA_MESSAGE_MAX_BYTES"
            )
        if topic == kafka.topic_lane_log:
            yield from _forgetful(found, kafka)
        elif topic == kafka.topic_pending:
            if cleanup not in {"", "compact"}:
                yield (
                    f"topic {topic}: with cleanup.policy={cleanup} Kafka would delete payments that"
                    " wait for the gateway. Correct the topic's configuration:\n  "
                    + _with_config(topic, PENDING_CONFIG, kafka)
                )
        elif "compact" in cleanup:
            yield (
                f"topic {topic}: is compacted (cleanup.policy={cleanup}), so it refuses"
                " records without a key, which invalid requests without a paymentId have; and it"
                " would keep only the last event of each payment. Have it delete by age:\n  "
                + _with_config(topic, {"cleanup.policy": "delete"}, kafka)
            )


def _topic_configs(
    admin: AdminClient, kafka: KafkaSettings, sit_out: SitOut | None
) -> dict[str, dict[str, str | None]]:
    """Return the settings of the topics that are written, without those that we may not see.

    A broker that is only slow is waited for: the log might be one that deletes ids.
    """
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            return _ask_for_configs(admin, kafka)
        except KafkaException as error:
            reason = _reason(error.args[0])
            is_late = time.monotonic() > deadline_s and sit_out is None
            if is_late or not passes(error.args[0]):
                _log.warning("the settings of the topics cannot be checked", error=reason)
                return {}
            if sit_out is not None:
                sit_out(f"the settings of the topics are not known: {reason}")
            time.sleep(_POLL_S)


def _ask_for_configs(admin: AdminClient, kafka: KafkaSettings) -> dict[str, dict[str, str | None]]:
    wanted = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in kafka.topics_written]
    found = {}
    answers = admin.describe_configs(wanted, request_timeout=_CONFIG_TIMEOUT_S)
    for resource, answer in answers.items():
        try:
            found[resource.name] = {name: each.value for name, each in answer.result().items()}
        except KafkaException as error:
            if error.args[0].code() not in _FORBIDDEN:
                raise
            _log.warning(
                "the settings of a topic cannot be checked: this user may not see them. Grant it:"
                " kafka-acls.sh --add --allow-principal User:<user> --operation DescribeConfigs"
                f" --topic {resource.name} --bootstrap-server {kafka.brokers}",
                topic=resource.name,
            )
    return found


def _forgetful(found: Mapping[str, str | None], kafka: KafkaSettings) -> Iterator[str]:
    """Yield the settings that would delete remembered ids: the flow trims its log itself."""
    wrong = {
        name: value
        for name, value in LANE_LOG_CONFIG.items()
        if name != _AHEAD and found.get(name, value) != value
    }
    if wrong:
        has = ", ".join(f"{name}={found[name]}" for name in wrong)
        yield (
            f"topic {kafka.topic_lane_log}: with {has} Kafka would delete remembered paymentIds."
            " Correct the topic's configuration:\n  "
            + _with_config(kafka.topic_lane_log, wrong, kafka)
        )
    most = LANE_LOG_CONFIG[_AHEAD]
    if int(found.get(_AHEAD) or 0) > int(most):
        yield (
            f"topic {kafka.topic_lane_log}: with {_AHEAD}={found[_AHEAD]} Kafka would accept the"
            " records of a process whose clock is far ahead, which would forget paymentIds early."
            " Correct the topic's configuration:\n  "
            + _with_config(kafka.topic_lane_log, {_AHEAD: most}, kafka)
        )


def _with_config(topic: str, config: Mapping[str, str], kafka: KafkaSettings) -> str:
    """Return the command that gives a topic these settings."""
    sets = ",".join(f"{name}={value}" for name, value in config.items())
    return (
        f"kafka-configs.sh --entity-type topics --entity-name {topic} --alter --add-config {sets}"
        f" --bootstrap-server {kafka.brokers}"
    )


def _metadata(
    admin: AdminClient, kafka: KafkaSettings, met: _Met, sit_out: SitOut | None
) -> ClusterMetadata:
    """Return the cluster's metadata; an error that no retry can cure is not waited out."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            return admin.list_topics(timeout=1.0)
        except KafkaException as error:
            admin.poll(_POLL_S)
            for found in met.errors:
                if hint := hint_for(found, kafka):
                    raise StartRefusedError(hint) from error
            met.errors.clear()
            last = _reason(met.last or error.args[0])
            is_late = time.monotonic() > deadline_s and sit_out is None
            # One that is just starting or stopping hangs up as well, but not for so long.
            if met.hangs_up_for_s() > _START_TIMEOUT_S or (is_late and met.hangup):
                raise StartRefusedError(
                    f"KAFKA_SECURITY_PROTOCOL ({kafka.security_protocol}): the broker closes the"
                    " connection at the first request; its listener probably requires TLS or"
                    f" SASL: {met.hangup}"
                ) from error
            if sit_out is not None:
                sit_out(f"no broker of {kafka.brokers} (KAFKA_BROKERS) answers: {last}")
            elif is_late:
                raise StartRefusedError(
                    f"KAFKA_BROKERS: no broker of {kafka.brokers} answered within"
                    f" {_START_TIMEOUT_S:g} s; last error: {last}"
                ) from error


def _reason(error: KafkaError) -> str:
    if error.code() == KafkaError._RESOLVE:  # noqa: SLF001  (no public name)
        return f"the name cannot be resolved: {error.str()}"
    return error.str()


def _topic_problem(metadata: ClusterMetadata, name: str) -> str | None:
    topic = metadata.topics.get(name)
    if topic is None:
        return "does not exist, or this user may not describe it; create it, or grant Describe"
    if topic.error is not None:
        return str(topic.error.str())
    return None
