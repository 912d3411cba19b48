"""Both shapes on one port, and the controls on another, which no outage closes.

GET  /book                all payments
GET  /count/{status}      how many payments have that status
GET  /asked/{key}         how often a key was asked for
PUT  /settings            any of `behaviour.Settings`; also for the next process
POST /outage              {"seconds": 30, "kind": "refuse"}, or a fault of `behaviour.Fault`
DELETE /outage            listens again, before the time is over
"""

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from dataflow.fake_provider.behaviour import Fault, FaultRule
from dataflow.fake_provider.book import Book
from dataflow.fake_provider.contract_api import ContractApi
from dataflow.fake_provider.provider import Provider
from dataflow.fake_provider.stripe_api import StripeApi

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HOST = "127.0.0.1"
_BACKLOG = 4096


class _Outage(msgspec.Struct, forbid_unknown_fields=True):
    seconds: float
    kind: str = "refuse"


class Server:
    """One provider and its two ports."""

    def __init__(self, book: Book) -> None:
        self._provider = Provider(book)
        self._runners: list[web.AppRunner] = []
        self._site: web.TCPSite | None = None
        self._connections: set[asyncio.Transport] = set()
        self._reopening: asyncio.Task[None] | None = None
        self.port = 0
        self.control_port = 0

    async def start(self, port: int, control_port: int) -> None:
        """Listen; 0 is any free port."""
        app = web.Application(middlewares=[self._remember_connection])
        app.add_routes([*StripeApi(self._provider).routes(), *ContractApi(self._provider).routes()])
        self._runners = [await _runner(app), await _runner(self._controls())]
        self.port = port
        self.port = await self._open()
        site = web.TCPSite(self._runners[1], _HOST, control_port)
        await site.start()
        self.control_port = self._runners[1].addresses[0][1]

    async def stop(self) -> None:
        """Close everything."""
        if self._reopening is not None:
            self._reopening.cancel()
        for runner in self._runners:
            await runner.cleanup()

    async def _open(self) -> int:
        self._site = web.TCPSite(self._runners[0], _HOST, self.port, backlog=_BACKLOG)
        await self._site.start()
        return int(self._runners[0].addresses[0][1])

    @web.middleware
    async def _remember_connection(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        transport = request.transport
        if transport is not None:
            self._connections.add(transport)
        return await handler(request)

    def _controls(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/book", self._book),
                web.get("/asked/{key}", self._asked),
                web.get("/count/{status}", self._count),
                web.put("/settings", self._settings),
                web.post("/outage", self._outage),
                web.delete("/outage", self._end_outage),
            ]
        )
        return app

    async def _book(self, _request: web.Request) -> web.Response:
        self._provider.book.finish_due(time.time())
        payments = msgspec.json.encode(self._provider.book.everything())
        return web.Response(body=payments, content_type="application/json")

    async def _count(self, request: web.Request) -> web.Response:
        return web.json_response(self._provider.book.count(request.match_info["status"]))

    async def _asked(self, request: web.Request) -> web.Response:
        return web.json_response(self._provider.book.asked(request.match_info["key"]))

    async def _settings(self, request: web.Request) -> web.Response:
        try:
            self._provider.change(await request.json())
        except msgspec.ValidationError as error:
            return web.Response(status=400, text=str(error))
        return web.Response(status=204)

    async def _outage(self, request: web.Request) -> web.Response:
        try:
            outage = msgspec.json.decode(await request.read(), type=_Outage)
            if outage.kind != "refuse":
                until_s = time.time() + outage.seconds
                self._provider.add_fault(FaultRule(Fault(outage.kind), until_s=until_s))
                return web.Response(status=204)
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        if self._site is not None:
            await self._site.stop()
            self._site = None
        for transport in self._connections:
            transport.abort()
        self._connections.clear()
        self._reopening = asyncio.create_task(self._reopen(outage.seconds))
        return web.Response(status=204)

    async def _end_outage(self, _request: web.Request) -> web.Response:
        if self._reopening is not None:
            self._reopening.cancel()
        await self._reopen(0)
        return web.Response(status=204)

    async def _reopen(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._site is None:
            await self._open()


async def _runner(app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    return runner


async def _serve(path: Path, port: int, control_port: int, *, attached: bool) -> None:
    server = Server(Book(path))
    await server.start(port, control_port)
    ports = {"port": server.port, "control_port": server.control_port}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if attached:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
    await server.stop()


def main(arguments: list[str]) -> None:
    """Serve until a signal comes, or the end of an input that is attached.

    Args:
        arguments: `STATE_FILE [PORT CONTROL_PORT [attached]]`.
    """
    # A connection that is reset on purpose is no news.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    path, port, control_port = [*arguments, "0", "0"][:3]
    attached = "attached" in arguments[3:]
    asyncio.run(_serve(Path(path), int(port), int(control_port), attached=attached))
