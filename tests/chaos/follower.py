"""A `read_committed` reader that reads while the faults happen."""

import threading
import time

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tests.support.kafka import Cluster

Seen = dict[tuple[str, int, int], int]
"""The records a reader has seen at each topic, partition and offset, as a hash."""

_TIMEOUT_S = 60.0


def seen_in(messages: list[Message]) -> Seen:
    """Return what is in such messages."""
    return {
        (message.topic() or "", message.partition() or 0, message.offset() or 0): hash(
            (message.key(), message.value())
        )
        for message in messages
    }


class Follower(threading.Thread):
    """A reader of topics from their beginnings, for as long as it is let."""

    def __init__(self, kafka: Cluster, topics: tuple[str, ...], partitions: int) -> None:
        super().__init__(name=f"follower-{topics[0]}", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "group.id": "follower",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        # The topics are new: they begin at 0. Not every broker may have them yet.
        self._consumer.assign(
            [TopicPartition(topic, n, 0) for topic in topics for n in range(partitions)]
        )
        self._done = threading.Event()
        self.seen: Seen = {}
        self.problems: list[str] = []

    def run(self) -> None:
        """Read, until `differs_from`."""
        while not self._done.is_set():
            messages = self._consumer.consume(10_000, 0.5)
            for message in messages:
                error = message.error()
                # Others pass: Kafka may be away for a while.
                if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                    self.problems.append(f"seen: the follower lost its place: {error.str()}")
            seen = seen_in([message for message in messages if message.error() is None])
            if again := seen.keys() & self.seen.keys():
                self.problems.append(f"seen: twice in the log, {sorted(again)[:3]}")
            self.seen |= seen

    def differs_from(self, afterwards: Seen) -> list[str]:
        """Return how what it saw differs from what a later reader sees, once it has caught up."""
        deadline = time.monotonic() + _TIMEOUT_S
        while len(self.seen) < len(afterwards) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.end()
        problems = list(self.problems)
        if only_during := self.seen.keys() - afterwards.keys():
            problems.append(f"seen: only during the faults, {sorted(only_during)[:3]}")
        if only_after := afterwards.keys() - self.seen.keys():
            problems.append(f"seen: only after the faults, {sorted(only_after)[:3]}")
        if changed := [
            at for at in afterwards.keys() & self.seen if afterwards[at] != self.seen[at]
        ]:
            problems.append(f"seen: otherwise during the faults, {changed[:3]}")
        return problems

    def end(self) -> None:
        """Read no more."""
        if not self._done.is_set():
            self._done.set()
            self.join()
            self._consumer.close()
