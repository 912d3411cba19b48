"""The lanes of one worker commit side by side."""

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

_COMMITS_AT_ONCE = 16


class Committing(Protocol):
    """A lane with an open transaction."""

    def commit(self) -> float:
        """Commit what was written; the seconds it took. Raises a `Fault` if that is uncertain."""
        ...


class CommitPool:
    """A pool in which one worker's lanes commit side by side: a commit mostly waits for Kafka.

    The engine asks one lane after the other for its snapshot, but only once all of them have been
    given the whole epoch. So when the first one is asked, all of them may begin.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_COMMITS_AT_ONCE, thread_name_prefix="commit")
        # By the worker's thread. Not `threading.local`: the engine's threads are not Python's own,
        # which loses their locals whenever they leave Python.
        self._open: defaultdict[int, list[Committing]] = defaultdict(list)
        self._running: defaultdict[int, dict[Committing, Future[float]]] = defaultdict(dict)

    def expect(self, lane: Committing) -> None:
        """Note that this lane has opened its transaction of the epoch."""
        self._open[threading.get_ident()].append(lane)

    def submit(self, call: Callable[[], None]) -> Future[None]:
        """Run something else that mostly waits for Kafka."""
        return self._pool.submit(call)

    def wait_for(self, lane: Committing, timeout_s: float) -> float:
        """Commit this lane, and begin to commit the worker's others; see `Committing.commit`.

        Raises:
            TimeoutError: it is still at it; there is no way to make it stop.
        """
        worker = threading.get_ident()
        running = self._running[worker]
        running |= {each: self._pool.submit(each.commit) for each in self._open.pop(worker, [])}
        return running.pop(lane).result(timeout_s)
