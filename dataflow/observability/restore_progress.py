"""The progress of restoring the payment ids of a previous run: for probes, log and metrics.

A start with many ids takes minutes, in which no epoch closes. It may take them, within a bound that
grows with the number of ids; and it shows how far it is.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Self

import structlog

_log = structlog.get_logger()

_BASE_S = 60.0
_PER_ID_S = 10e-6
"""About ten times what it takes: see `dataflow.scaling.costs`. Probes are answered meanwhile."""
_LOG_EVERY_S = 5.0


class Restored(NamedTuple):
    """The progress, over all restores of the process."""

    done: int
    ids: int
    """That are to be restored, as far as is known."""
    under_way: bool

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return f"{self.done:,} of {self.ids:,} remembered ids restored"


class Restores:
    """All restores of one process; safe to use from any thread.

    Args:
        processes: In the cluster. Each has its own ids only, and waits for the one with the most.
        monotonic: The clock.
        on_end: Called whenever no restore is under way any more.
    """

    def __init__(
        self,
        processes: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._processes = processes
        self._monotonic = monotonic
        self._on_end = on_end
        self._lock = threading.Lock()
        self._done = 0
        self._ids = 0
        self._open = 0
        self._began_at: float | None = None
        self._advanced_at: float | None = None
        self._logged_at = 0.0

    def begin(self, ids: int) -> "Restoring":
        """Begin to restore `ids` ids, or more as `Restoring.expect` adds to them."""
        with self._lock:
            self._open += 1
            if self._began_at is None:
                self._began_at = self._logged_at = self._monotonic()
        restoring = Restoring(self)
        restoring.expect(ids)
        return restoring

    @property
    def so_far(self) -> Restored:
        """The progress now."""
        with self._lock:
            return Restored(self._done, self._ids, self._open > 0)

    @property
    def allowed_s(self) -> float:
        """The time an epoch may stay open for it; 0 if there is nothing to restore."""
        with self._lock:
            return _BASE_S + self._ids * _PER_ID_S * self._processes if self._ids else 0.0

    def has_advanced_since(self, moment: float) -> bool:
        """Return whether anything was restored since: slower than it should be, and no hang."""
        with self._lock:
            return self._advanced_at is not None and self._advanced_at >= moment

    # ---- called by `Restoring` ----

    def expect(self, ids: int) -> None:
        """Note that more ids are to be restored."""
        with self._lock:
            self._ids += ids

    def advance(self, ids: int) -> None:
        """Note that more ids are restored."""
        with self._lock:
            self._done += ids
            now = self._advanced_at = self._monotonic()
            due = now - self._logged_at >= _LOG_EVERY_S
            if due:
                self._logged_at = now
            done, total = self._done, self._ids
        if due:
            _log.info("restoring remembered ids", restored=done, ids=total)

    def end(self) -> None:
        """Note that one restore is over."""
        with self._lock:
            self._open -= 1
            is_last = self._open == 0
            seconds = self._monotonic() - (self._began_at or 0.0)
            done, total = self._done, self._ids
        if not is_last:
            return
        if total:
            _log.info(
                "remembered ids restored", restored=done, ids=total, seconds=round(seconds, 3)
            )
        self._on_end()


class Restoring:
    """One restore, such as that of a lane. As a context manager it ends itself."""

    def __init__(self, restores: Restores) -> None:
        self._restores = restores
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def expect(self, ids: int) -> None:
        """Add `ids` to what is to be restored: the whole was not known at the beginning."""
        self._restores.expect(ids)

    def advance(self, ids: int) -> None:
        """Add `ids` to what is restored. Call it once per batch, not per id."""
        self._restores.advance(ids)

    def end(self) -> None:
        """Note that nothing more is to come. Idempotent."""
        if not self._ended:
            self._ended = True
            self._restores.end()
