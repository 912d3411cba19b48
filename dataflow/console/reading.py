"""The reading of whole topics by tools, with progress."""

from collections.abc import Iterator

from dataflow.console.progress import Progress
from dataflow.core.open_entries import OpenEntries
from dataflow.kafka.topic_scan import Chunk, TopicScan


def read(
    scan: TopicScan, topic: str, progress: Progress, since_ms: int | None = None
) -> Iterator[Chunk]:
    """Yield the visible records of a topic, up to its present end.

    Args:
        scan: The reader.
        topic: Its name.
        progress: Shows how much of it is read.
        since_ms: Without the records before the first one that is not older.
    """
    bounds = scan.bounds_now(topic, since_ms)
    total = sum(each.high - each.low for each in bounds.values())
    done = dict.fromkeys(bounds, 0)
    for chunk in scan.read_all(topic, bounds):
        yield chunk
        done[chunk.partition] = chunk.offsets[-1] + 1 - bounds[chunk.partition].low
        progress(topic, sum(done.values()), total)


def open_entries(scan: TopicScan, topic: str, progress: Progress) -> OpenEntries:
    """Return the open entries of the pending topic."""
    found = OpenEntries()
    for chunk in read(scan, topic, progress):
        for record in zip(chunk.keys, chunk.values, chunk.headers, strict=True):
            found.take(*record)
    return found
