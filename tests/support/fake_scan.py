"""Topics in memory, as the tools read them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from dataflow.kafka.topic_scan import Bounds, Chunk


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
    ) -> None:
        """Append a record."""
        self._logs[topic].append((time_ms, key, value, headers))

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
