"""Connections of the sidecar that cannot be held for ever, nor keep others out.

Connections on which nothing, or next to nothing, is sent cost a file descriptor each; left
alone, they would use up those that the flow needs, and the probes would be refused.
"""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

SERVED = 256
"""Connections of one port at once; past it those that wait make room, or the answer is 503."""
TIMEOUT_S = 15.0
"""The time a request may take from its first byte to the end of its answer, and that a new
connection may be silent."""
GRACE_S = 1.0
"""A connection that has waited for so long makes room for a new one."""
_ACCEPTED = 2048


def most_accepted() -> int:
    """Return the connections of one port at once, served or refused: the flow keeps its half."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _ACCEPTED if limit == resource.RLIM_INFINITY else min(_ACCEPTED, limit // 4)


class Connection(H11Protocol):
    """One connection, as uvicorn handles it, under a deadline."""

    _deadline: asyncio.TimerHandle | None = None
    _since_s = 0.0
    _is_leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, if there is room; the one that has waited longest may have to go."""
        super().connection_made(transport)
        self._since_s = self.loop.time()
        self._set_deadline()
        if len(self.connections) < SERVED:
            return
        waiting = [each for each in self.connections if isinstance(each, Connection)]
        oldest = min(filter(Connection._may_go, waiting), key=_since, default=None)
        if oldest is not None:
            oldest._leave()  # noqa: SLF001  (one of our own)
        elif len(self.connections) > most_accepted():
            self._drop()

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request: the deadline is that of its first one."""
        super().data_received(data)
        if self._deadline is None and not self.transport.is_closing():
            self._set_deadline()

    def on_response_complete(self) -> None:
        """Wait for the next request, as long as uvicorn keeps connections alive."""
        self._since_s = self.loop.time()
        self._cancel_deadline()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection: it is gone."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def _may_go(self) -> bool:
        return (
            self._is_waiting()
            and not self._is_leaving
            and self.loop.time() - self._since_s >= GRACE_S
        )

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(TIMEOUT_S, self._drop)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _leave(self) -> None:
        # A loop that is busy for a second makes the connections of a crowd before it reads from
        # any of them. The second round from here comes after all that has arrived was read.
        self._is_leaving = True
        self.loop.call_soon(self.loop.call_soon, self._drop_if_it_waits)

    def _drop_if_it_waits(self) -> None:
        self._is_leaving = False
        if self._is_waiting():
            self._drop()

    def _drop(self) -> None:
        # At once: a client that does not read would otherwise hold it until all is written.
        self.connections.discard(self)
        self.transport.abort()


def _since(connection: Connection) -> float:
    return connection._since_s  # noqa: SLF001  (one of our own)
