"""The view from outside: outcomes as a `read_committed` reader sees them, CPU, and memory."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_S = 0.1
_TIMEOUT_S = 180.0


class Reader:
    """A reader of a growing topic, in a thread; counts records and notes when each key came.

    Attributes:
        count: Records so far.
        first_seen: By key, when the first record with it was there, in seconds since 1970.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.count = 0
        self.first_seen: dict[bytes, float] = {}
        self._noting = False
        self._last = 0.0
        self._stop = False
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "bench",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": 131_072,
            }
        )
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        self._thread = threading.Thread(target=self._read, daemon=True)

        self._thread.start()

    def stop(self) -> None:
        """Leave Kafka."""
        self._stop = True
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._stop:
            messages = self._consumer.consume(10_000, 0.01)
            if not messages:
                continue
            now = time.time()
            if self._noting:
                for message in messages:
                    self.first_seen.setdefault(message.key() or b"", now)
            self._last = now
            self.count += sum(message.error() is None for message in messages)

    def note(self, *, keys: bool) -> None:
        """Begin to note when keys come, or to count only, which costs less."""
        self.first_seen = {}
        self._noting = keys

    def wait_for(
        self, count: int, check: Callable[[], None], timeout_s: float = _TIMEOUT_S
    ) -> float | None:
        """Return when the `count`-th record was there; None if it was not within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.count < count:
            if time.monotonic() > deadline:
                return None
            check()
            time.sleep(0.01)
        return self._last


class Usage:
    """CPU and memory of processes and all their children."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, self.resident_bytes())

    def cpu_s(self) -> float:
        """Return the seconds of CPU so far, user and system; ended children included."""
        ticks = 0
        for pid in self._tree():
            fields = _stat(pid)
            # utime, stime, and those of children that were waited for
            ticks += sum(map(int, fields[11:15])) if fields else 0
        return ticks / _TICKS

    def idle_cpu_s(self) -> float:
        """Return the CPU seconds of the threads that live: finer than `cpu_s`, by nanoseconds."""
        nanoseconds = 0
        for pid in self._tree():
            for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    nanoseconds += int(thread.read_text().split()[0])
                except OSError:
                    continue
        return nanoseconds / 1e9

    def resident_bytes(self) -> int:
        """Return the memory in use now: the sum over the processes of what each has resident."""
        return sum(int(statm.split()[1]) * _PAGE for statm in self._of_each("statm"))

    def anonymous_bytes(self) -> int:
        """Return the memory in use now without the pages of files, which Linux can take back."""
        anonymous = (re.search(r"RssAnon:\s*(\d+) kB", each) for each in self._of_each("status"))
        return sum(int(found[1]) * 1024 for found in anonymous if found)

    def _of_each(self, name: str) -> Iterator[str]:
        """Yield a file of each process in /proc; not of those that have just ended."""
        for pid in self._tree():
            try:
                yield Path(f"/proc/{pid}/{name}").read_text()
            except OSError:
                continue

    def _tree(self) -> list[int]:
        found, queue = [], list(self._pids)
        while queue:
            pid = queue.pop()
            found.append(pid)
            for listed in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    queue += map(int, listed.read_text().split())
                except OSError:
                    continue
        return found


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third one on; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
