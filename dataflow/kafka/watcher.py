"""The cluster's facts that are looked up every few seconds: for the probes, and new partitions."""

import threading
import time
from collections.abc import Callable

import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from dataflow.core.watermarks import Clock
from dataflow.kafka import client_config
from dataflow.kafka.partition_offsets import LATEST, Ends
from dataflow.observability.outage import Outage
from dataflow.process_context import ProcessContext

_log = structlog.get_logger()
_POLL_S = 0.1
_WATCH_EVERY_S = 5.0
_WITNESS_S = 5.0
"""The time a second client may take to be given a record: it has to connect first."""


class Watcher(threading.Thread):
    """A look at the cluster every few seconds: for the probes, and for new input partitions."""

    def __init__(
        self,
        context: ProcessContext,
        log_ends: Ends,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(name="kafka-watcher", daemon=True)
        self._kafka = kafka = context.settings.kafka
        self._topic = kafka.topic_requested
        self._read_up_to = context.read_up_to
        self._log_ends = log_ends
        self._status = context.status
        self._lifecycle = context.lifecycle
        self._wait = wait
        self._admin = AdminClient(client_config.client(kafka, "watcher") | {"log_level": 0})
        self._outage = Outage("Kafka is unreachable")
        self._clock = Clock(time.time(), time.monotonic())

    def run(self) -> None:
        """Look, until the process ends."""
        while True:
            self._wait(_WATCH_EVERY_S)
            try:
                self.look()
            except Exception:  # noqa: BLE001  (the next look may succeed; without any, all is blind)
                _log.warning("cluster metadata could not be read", exc_info=True)

    def look(self) -> None:
        """Look once."""
        try:
            topic = self._admin.list_topics(timeout=_WATCH_EVERY_S).topics[self._topic]
        except KafkaException as error:
            self._status.broker_down(error.args[0].str())
            self._outage.lasts(error.args[0].str())
            return
        except KeyError:
            return
        self._status.broker_up()
        self._outage.is_over()
        if not self._report_ends(list(topic.partitions)):
            # Kafka has just gone silent: to ask for more would only delay the look that finds it.
            return
        if positions := self._status.partitions.to_be_witnessed():
            for partition in self._with_records(positions):
                self._status.partitions.witnessed(partition, positions[partition])
        try:
            self._log_ends.look(self._admin, _WATCH_EVERY_S)
        except KafkaException as error:
            # An older answer serves as well: then a start reads a little more of the log.
            _log.debug("ends of the lane log", error=error.args[0].str())
        found = len(topic.partitions)
        if found > len(self._read_up_to):
            # Their records are kept by Kafka until then; the engine's partitions are fixed.
            self._lifecycle.request_stop(
                f"{self._topic} has {found} partitions now, not {len(self._read_up_to)}",
                restart=True,
            )

    def _report_ends(self, partitions: list[int]) -> bool:
        """Report the ends: for the lag, for stopped clients, and for how far all is read.

        Returns:
            Whether any partition gave an answer.
        """
        now_ms = int(self._clock.now_s(time.time(), time.monotonic()) * 1000)
        ends = self._latest(partitions, IsolationLevel.READ_UNCOMMITTED)
        if not ends:
            return False
        stable = self._latest(partitions, IsolationLevel.READ_COMMITTED)
        for partition in ends.keys() & stable.keys():
            self._status.partitions.ends_at(partition, ends[partition], stable[partition])
            if partition in self._read_up_to:
                self._read_up_to[partition].ends_at(ends[partition], now_ms)
        return True

    def _with_records(self, positions: dict[int, int]) -> set[int]:
        """Return the partitions of which a second client is given a record from the position on."""
        found: set[int] = set()
        small = {"queued.min.messages": 1}
        witness = Consumer(client_config.consumer(self._kafka, "witness", len(positions)) | small)
        try:
            witness.assign([TopicPartition(self._topic, *each) for each in positions.items()])
            deadline_s = time.monotonic() + _WITNESS_S
            while found != positions.keys() and time.monotonic() < deadline_s:
                messages = witness.consume(100, _POLL_S)
                records = [each for each in messages if each.error() is None]
                found |= {at for each in records if (at := each.partition()) is not None}
        except KafkaException as error:
            _log.debug("witness read failed", error=error.args[0].str())
        finally:
            witness.close()
        return found

    def _latest(self, partitions: list[int], level: IsolationLevel) -> dict[int, int]:
        """Return where readers of this level stop; without the partitions that give no answer."""
        wanted = {TopicPartition(self._topic, each): LATEST for each in partitions}
        answers = self._admin.list_offsets(
            wanted, isolation_level=level, request_timeout=_WATCH_EVERY_S
        )
        found = {}
        for where, answer in answers.items():
            try:
                found[where.partition] = answer.result().offset
            except KafkaException as error:
                _log.debug(
                    "end offset lookup failed", partition=where.partition, error=error.args[0].str()
                )
        return found
