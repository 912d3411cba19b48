"""A bridge from worker threads, which block, to a gateway, which lives on an event loop."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import NamedTuple

import structlog

from dataflow.errors import GatewayFaultError
from dataflow.gateways.port import Definite, Gateway
from dataflow.gateways.retry import OnWait, charge_until_final
from schemas.requests import PaymentRequest

_log = structlog.get_logger()

_GRACE_S = 5.0
"""The time beyond the deadline to wait for a gateway that blocks its event loop."""
_CLOSE_S = 5.0
"""The time the gateway may take to close; a process that ends must not hang on it."""


class _Running(NamedTuple):
    loop: asyncio.AbstractEventLoop
    gateway: Gateway
    stop: asyncio.Event


class GatewayRunner:
    """One gateway on one event loop in one daemon thread, for all worker threads of a process.

    The thread starts, and the gateway is built there, with the first batch: a process that only
    prints the graph opens no connections.

    Args:
        build: Returns the gateway; called on the loop.
        concurrency: Calls in flight at once, of all batches together.

    Attributes:
        deadline_s: For each batch, retries included.
    """

    def __init__(
        self,
        build: Callable[[], Gateway],
        deadline_s: float,
        *,
        concurrency: int = 256,
        on_wait: OnWait | None = None,
    ) -> None:
        self.deadline_s = deadline_s
        self._build = build
        self._slots = asyncio.Semaphore(concurrency)
        self._on_wait = on_wait
        # Also held while a batch is handed over, so that none is handed to a loop that has ended.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running: Future[_Running] = Future()
        self._closed = False

    def charge(self, requests: Sequence[PaymentRequest]) -> list[Definite]:
        """Return a definite reply for each request, in their order, for any calling thread.

        Raises `GatewayFaultError` as `dataflow.gateways.charge_until_final` does, and what building
        the gateway raised, if it did.
        """
        with self._lock:
            if self._closed:
                raise GatewayFaultError("the gateway is already closed")
            loop, gateway, _ = self._start()
            batch = charge_until_final(
                gateway,
                requests,
                deadline_s=self.deadline_s,
                slots=self._slots,
                on_wait=self._on_wait,
            )
            future = asyncio.run_coroutine_threadsafe(batch, loop)
        try:
            return future.result(self.deadline_s + _GRACE_S)
        except CancelledError:
            raise GatewayFaultError(f"{len(requests)} requests: the gateway was closed") from None
        except TimeoutError:
            future.cancel()
            raise GatewayFaultError(
                f"{len(requests)} requests: the gateway did not return by its deadline of "
                f"{self.deadline_s:g} s; it blocks its event loop, or ignores cancellation"
            ) from None

    def close(self) -> None:
        """Close the gateway and end the thread; batches under way end with a fault.

        Never raises, since it is called on the way out of a crash too. May be called again, by any
        thread, and then waits for nothing.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._thread is None:
            return
        if self._running.done() and self._running.exception() is None:
            loop, _, stop = self._running.result()
            with suppress(RuntimeError):  # the loop has already ended
                loop.call_soon_threadsafe(stop.set)
        self._thread.join(_CLOSE_S + 1)

    def _start(self) -> _Running:
        if self._thread is None:
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._serve()), name="gateway", daemon=True
            )
            self._thread.start()
        try:
            return self._running.result(self.deadline_s + _GRACE_S)
        except TimeoutError as err:
            if self._running.done():  # its own error, then
                raise
            raise GatewayFaultError("the gateway takes too long to build") from err

    async def _serve(self) -> None:
        try:
            gateway = self._build()
        except BaseException as err:  # noqa: BLE001  (raised again in the thread that waits)
            self._running.set_exception(err)
            return
        stop = asyncio.Event()
        self._running.set_result(_Running(asyncio.get_running_loop(), gateway, stop))
        if not self._closed:  # it may have been, while the gateway was being built
            await stop.wait()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await gateway.close()
            _log.info("gateway closed")
        except Exception:  # noqa: BLE001  (there is nothing left that it could harm)
            _log.warning("gateway not closed cleanly", exc_info=True)
