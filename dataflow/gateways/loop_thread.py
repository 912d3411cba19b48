"""An event loop in a daemon thread, for a gateway: started with the first use, and closed once."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import NamedTuple

import structlog

_log = structlog.get_logger()
_CLOSE_S = 5.0
"""The time the gateway may take to close; a process that ends must not hang on it."""


class _Running(NamedTuple):
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


class LoopThread:
    """The thread of one gateway.

    Args:
        close_gateway: Closes the gateway; called on the loop.
    """

    def __init__(self, close_gateway: Callable[[], Awaitable[None]]) -> None:
        self._close_gateway = close_gateway
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running: Future[_Running] = Future()
        self._closed = False

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs from now on."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=lambda: asyncio.run(self._serve()), name="gateway", daemon=True
                    )
                    self._thread.start()
        return self._running.result().loop

    @property
    def is_closed(self) -> bool:
        """True once it is to end: nothing may begin on the loop any more."""
        return self._closed

    def call(self, what: Callable[..., object], *args: object) -> None:
        """Call something on the loop; nothing once that has ended."""
        with suppress(RuntimeError):
            self.loop().call_soon_threadsafe(what, *args)

    def close(self) -> None:
        """Close the gateway and end the thread; what is under way is cancelled.

        Never raises, since it is called on the way out of a crash too. May be called again, by any
        thread, and then waits for nothing.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._thread is None:
            return
        loop, stop = self._running.result()
        with suppress(RuntimeError):  # the loop has already ended
            loop.call_soon_threadsafe(stop.set)
        self._thread.join(_CLOSE_S + 1)

    async def _serve(self) -> None:
        stop = asyncio.Event()
        self._running.set_result(_Running(asyncio.get_running_loop(), stop))
        if not self._closed:
            await stop.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._close_gateway()
            _log.info("gateway closed")
        except Exception:  # noqa: BLE001  (there is nothing left that it could harm)
            _log.warning("gateway not closed cleanly", exc_info=True)
