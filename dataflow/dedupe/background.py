"""The thread that writes files, one for all lanes of a process."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future


class Stopped(Exception):  # noqa: N818  (it is no error)
    """Work was given up, or not begun, as the process ends."""


class Background:
    """A worker that does one job after the other.

    The thread is a daemon: what it writes is worthless until it is complete, so a process that ends
    does not wait for it. Once it is stopped, every job has ended or ends with `Stopped`: nobody
    waits for ever.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[None], Callable[[], None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def stopping(self) -> bool:
        """Return whether long work is to be given up."""
        return self._stopping.is_set()

    def submit(self, job: Callable[[], None]) -> "Future[None]":
        """Do something soon."""
        future: Future[None] = Future()
        with self._lock:  # once for each job, not for each batch
            if self._stopping.is_set():
                future.set_exception(Stopped())
                return future
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dedupe-files", daemon=True)
                self._thread.start()
            self._jobs.put((future, job))
        return future

    def stop(self, timeout_s: float = 2.0) -> None:
        """Give up what is being done, and wait for that. Idempotent."""
        with self._lock:
            self._stopping.set()
            self._jobs.put((Future(), lambda: None))  # so that the thread looks
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while not self._stopping.is_set():
            # In a call of its own: a job that is done must not hold its runs until the next comes.
            _do(*self._jobs.get(), self._stopping)
        while not self._jobs.empty():
            self._jobs.get()[0].set_exception(Stopped())


def _do(future: "Future[None]", job: Callable[[], None], stopping: threading.Event) -> None:
    if stopping.is_set():
        future.set_exception(Stopped())
        return
    try:
        job()
    except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
        future.set_exception(error)
    else:
        future.set_result(None)
