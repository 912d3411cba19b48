"""A network link that a test may cut, stall and slow down: a TCP proxy in a thread of its own."""

import asyncio
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, Self

from tests.support.kafka import ports

_CHUNK = 64 * 1024
_QUEUE = 256
"""Chunks under way in one direction; then the sender feels the pressure, as on a real link."""

Read = Callable[[], Awaitable[bytes]]
"""The next bytes of one direction; none at its end."""


class Asked(NamedTuple):
    """The head of a request of Kafka's protocol."""

    api_key: int
    version: int


class Link:
    """A proxy to a port of this machine. As a context manager it closes itself.

    Attributes:
        port: Where clients connect.
        delay_s: How long everything takes in each direction, in seconds.
        bytes_per_s: The most that each connection carries in each direction; 0 is no limit.
        edit: Makes of an answer what the client gets to see; both without their length. Only for
            connections that are made after it is set.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self._target_port = target_port
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.edit: Callable[[Asked, bytes], bytes] | None = None
        self._is_cut = False
        self._flows = asyncio.Event()
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()
        if not self._listening.wait(10):
            raise TimeoutError(f"the link does not listen on port {port}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """Reset every connection, and refuse new ones, until `mend`."""
        self._is_cut = True
        self._call(self._reset)

    def stall(self) -> None:
        """Take connections and data, but pass nothing on, until `mend`: as if packets were lost."""
        self._call(self._flows.clear)

    def slow_down(self, delay_s: float, bytes_per_s: int) -> None:
        """Make it as slow as this, until `mend`."""
        self.delay_s, self.bytes_per_s = delay_s, bytes_per_s

    def mend(self) -> None:
        """Undo everything."""
        self._is_cut = False
        self.slow_down(0.0, 0)
        self._call(self._flows.set)

    def close(self) -> None:
        """End it, and all connections."""
        self._call(self._loop.stop)
        self._thread.join(10)

    def _call(self, what: object) -> None:
        self._loop.call_soon_threadsafe(what)  # type: ignore[arg-type]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._flows.set()
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, ports.HOST, self.port)
        )
        self._listening.set()
        self._loop.run_forever()
        server.close()
        self._reset()
        # A connection that has just been taken starts its tasks while others are being ended.
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def _reset(self) -> None:
        for connection in self._connections:
            # Without the usual farewell, for which a cut cable gives no time.
            connection.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = {writer}
        self._connections |= mine
        try:
            if self._is_cut:
                return
            far_reader, far_writer = await asyncio.open_connection(ports.HOST, self._target_port)
            mine.add(far_writer)
            self._connections |= mine
            there, back = _chunks(reader), _chunks(far_reader)
            if self.edit is not None:
                asked: dict[bytes, Asked] = {}
                there, back = _requests(reader, asked), _answers(far_reader, asked, self.edit)
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pass(there, far_writer))
                directions.create_task(self._pass(back, writer))
        except* (OSError, asyncio.CancelledError):
            pass  # one of the two ends is gone; so is the other
        finally:
            self._connections -= mine
            for each in mine:
                each.transport.abort()

    async def _pass(self, read: Read, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)
        carrier = asyncio.create_task(self._carry(queue, writer))
        try:
            while data := await read():
                if self.bytes_per_s:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                await queue.put((self._loop.time() + self.delay_s, data))
            await queue.put((self._loop.time() + self.delay_s, b""))
            await carrier
        finally:
            carrier.cancel()
            with suppress(OSError, asyncio.CancelledError):
                await carrier

    async def _carry(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        """Deliver what is due, in order."""
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - self._loop.time())
            await self._flows.wait()
            if not data:
                raise ConnectionResetError  # the sender has hung up: end both directions
            writer.write(data)
            await writer.drain()


def _chunks(reader: asyncio.StreamReader) -> Read:
    return lambda: reader.read(_CHUNK)


def _requests(reader: asyncio.StreamReader, asked: dict[bytes, Asked]) -> Read:
    async def read() -> bytes:
        if message := await _message(reader):
            asked[message[4:8]] = Asked(*struct.unpack_from(">hh", message))
        return _framed(message)

    return read


def _answers(
    reader: asyncio.StreamReader,
    asked: dict[bytes, Asked],
    edit: Callable[[Asked, bytes], bytes],
) -> Read:
    async def read() -> bytes:
        message = await _message(reader)
        return _framed(edit(asked.pop(message[:4]), message) if message else b"")

    return read


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Return the next request or answer without its length, see Kafka's guide; or nothing."""
    try:
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return b""


def _framed(message: bytes) -> bytes:
    return struct.pack(">i", len(message)) + message if message else b""
