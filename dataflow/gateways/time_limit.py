"""One time limit for many calls on one loop: `asyncio.timeout`, with one timer for all of them."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

_T = TypeVar("_T")


class TimeLimit:
    """The limit of calls that each run in a task of their own.

    Args:
        seconds: For each call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In the order in which they began, and so in that in which they are due.
        self._due_s: dict[asyncio.Task[Any], float] = {}
        self._over: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, call: Awaitable[_T]) -> _T:
        """Return what a call returns; `TimeoutError` if it took too long, and was cancelled."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._due_s[task] = due_s = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._tick, loop)
        cancelled = task.cancelling()
        try:
            return await call
        except asyncio.CancelledError as error:
            if task in self._over and task.cancelling() <= cancelled + 1:
                raise TimeoutError from error
            raise  # it was cancelled from outside, too
        finally:
            del self._due_s[task]
            if task in self._over:
                self._over.remove(task)
                task.uncancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what is due, and wait for the next one."""
        now_s, self._timer = loop.time(), None
        for task, due_s in self._due_s.items():
            if due_s > now_s:
                self._timer = loop.call_at(due_s, self._tick, loop)
                return
            if task not in self._over:
                self._over.add(task)
                task.cancel()
