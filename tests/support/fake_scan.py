"""Topics in memory, as the tools read them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import TopicPartition

from dataflow.kafka.topic_scan import Bounds, Chunk


class FakeMessage:
    """A record, as the client gives it."""

    def __init__(
        self, key: bytes | None, value: bytes | None, headers: Any, offset: int | None
    ) -> None:
        self._record = key, value, headers, offset

    def error(self) -> None:
        """Return that there is none."""

    def key(self) -> bytes | None:
        """Return the key."""
        return self._record[0]

    def value(self) -> bytes | None:
        """Return the value."""
        return self._record[1]

    def headers(self) -> Any:
        """Return the headers."""
        return self._record[2]

    def partition(self) -> int:
        """Return the only one."""
        return 0

    def offset(self) -> int | None:
        """Return the offset."""
        return self._record[3]


class FakeScan:
    """The topics of a cluster, each with one partition; a `TopicScan` that reads itself."""

    def __init__(self) -> None:
        self._logs: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.reads: list[str] = []
        """The topics that were read, in this order."""

    def put(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Any = None,
        time_ms: int = 0,
    ) -> int:
        """Append a record; its offset."""
        self._logs[topic].append((time_ms, key, value, headers))
        return len(self._logs[topic]) - 1

    def bounds_now(self, topic: str, since_ms: int | None = None) -> dict[int, Bounds]:
        """Return the bounds, without what is older."""
        log = self._logs[topic]
        newer = [n for n, each in enumerate(log) if each[0] >= (since_ms or 0)]
        low = newer[0] if newer else len(log)
        return {0: Bounds(low, len(log), len(log))}

    def read_all(self, topic: str, bounds: Mapping[int, Bounds]) -> Iterator[Chunk]:
        """Yield the records within the bounds, two at a time."""
        self.reads.append(topic)
        for begin in range(bounds[0].low, bounds[0].high, 2):
            end = min(begin + 2, bounds[0].high)
            times_ms, keys, values, headers = zip(*self._logs[topic][begin:end], strict=True)
            offsets = list(range(begin, end))
            yield Chunk(0, offsets, list(times_ms), list(keys), list(values), list(headers))

    def consumer(self, _partitions: int) -> "FakeConsumer":
        """Return a client that reads the topics as they grow."""
        return FakeConsumer(self._logs)


class FakeConsumer:
    """A client that reads one topic."""

    def __init__(self, logs: Mapping[str, list[tuple[Any, ...]]]) -> None:
        self._logs = logs
        self._topic, self._offset = "", 0

    def assign(self, where: list[TopicPartition]) -> None:
        """Begin there."""
        [only] = where
        self._topic, self._offset = only.topic, only.offset

    def consume(self, _most: int, _seconds: float) -> list[FakeMessage]:
        """Return what has come."""
        begin, log = self._offset, self._logs[self._topic]
        self._offset = len(log)
        return [
            FakeMessage(key, value, headers, begin + n)
            for n, (_, key, value, headers) in enumerate(log[begin:])
        ]

    def close(self) -> None:
        """Do nothing."""
