"""The HTTP side of the process: probes and the status page on one port, metrics on another.

Off the payment path: both run on one event loop in one daemon thread. They only read: whatever they
answer, and whether they answer at all, the flow goes on as before.
"""

import asyncio
import gzip
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config, Server

from dataflow.errors import StartRefusedError
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import Status
from dataflow.web.connections import SERVED, Connection
from dataflow.web.listeners import BACKLOG, listen
from dataflow.web.status_page.render import POLICY, render

_log = logging.getLogger(__name__)

_HEADERS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Of every answer but the status page, which has its own: a browser would apply both."""
_REQUEST_HEAD_MAX_BYTES = 16 * 1024
_Endpoint = Callable[[Request], Awaitable[Response]]


def probes_app(status: Status, metrics: Metrics) -> Starlette:
    """Return `/health`, `/ready` and `/live`: JSON, 200 for yes and 503 for no, with the reason.

    And `/`, the status page for people: 200 as long as there is something to show.
    """

    def probe(check: Callable[[], tuple[bool, dict[str, Any]]]) -> _Endpoint:
        async def answer(_request: Request) -> Response:
            good, body = check()
            return JSONResponse(body, status_code=200 if good else 503)

        return answer

    def ready() -> tuple[bool, dict[str, Any]]:
        good, reason = status.ready()
        return good, {"ready": good, "reason": reason}

    def live() -> tuple[bool, dict[str, Any]]:
        good, reason = status.live()
        return good, {"live": good, "reason": reason}

    async def page(_request: Request) -> Response:
        headers = {"Content-Security-Policy": POLICY}
        return HTMLResponse(await asyncio.to_thread(render, status, metrics), headers=headers)

    return _app(
        {
            "/": page,
            "/health": probe(status.health),
            "/ready": probe(ready),
            "/live": probe(live),
        }
    )


def metrics_app(registry: CollectorRegistry) -> Starlette:
    """Return `/metrics`, as OpenMetrics or Prometheus text (by `Accept`), gzipped if possible."""
    rendering = _Rendering(registry)

    async def metrics(request: Request) -> Response:
        compress = gzip_accepted(request.headers.get("accept-encoding", ""))
        body, content_type = await rendering.get(request.headers.get("accept", ""), compress)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if compress:
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers)

    return _app({"/metrics": metrics})


class _Rendering:
    """The rendering, in a thread, one at a time, and once for all that asked before it began.

    So the probes on the same loop are not held up, and a flood of scrapers costs the payment
    path no more than two of them. Nobody gets a state older than their question.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._busy = asyncio.Lock()
        self._next: dict[tuple[str, bool], asyncio.Task[tuple[bytes, str]]] = {}

    async def get(self, accept: str, compress: bool) -> tuple[bytes, str]:  # noqa: FBT001
        key = (accept, compress)
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._run(key))
        # One client that hangs up must not cancel the others' answer.
        return await asyncio.shield(task)

    async def _run(self, key: tuple[str, bool]) -> tuple[bytes, str]:
        async with self._busy:
            del self._next[key]
            return await asyncio.to_thread(self._render, *key)

    def _render(self, accept: str, compress: bool) -> tuple[bytes, str]:  # noqa: FBT001
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # a version that is not made of numbers: the plain format then
            encode, content_type = choose_encoder("")
        body = encode(self._registry)
        return gzip.compress(body, compresslevel=1) if compress else body, content_type


async def _refused(_request: Request, error: Exception) -> Response:
    """Return 404 and 405 in the shape of every other answer."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _failed(_request: Request, _error: Exception) -> Response:
    """Return the answer to a bug of ours: the log has the traceback, the client nothing of it."""
    return JSONResponse({"error": "Internal Server Error"}, 500)


def _app(endpoints: dict[str, _Endpoint]) -> Starlette:
    app = Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    # A redirect would be built from the client's own Host header.
    app.router.redirect_slashes = False
    return app


class _Guard:
    """A default Content-Security-Policy that allows nothing, for answers without their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Content-Security-Policy", _POLICY)
            await send(message)

        await self._app(scope, receive, guarded)


class Sidecar:
    """Both servers of a process, running until `stop` or the end of the process.

    Attributes:
        port: Of the probes; differs from the one asked for when that was 0 (any free port).
        metrics_port: Of `/metrics`, likewise.
    """

    def __init__(
        self, probes: tuple[Starlette, socket.socket], metrics: tuple[Starlette, socket.socket]
    ) -> None:
        self.port = int(probes[1].getsockname()[1])
        self.metrics_port = int(metrics[1].getsockname()[1])
        self._sockets = [probes[1], metrics[1]]
        self._servers = [_server(app) for app, _ in (probes, metrics)]
        # A daemon: a crashing flow must be able to end the process without asking us.
        self._thread = threading.Thread(target=self._run, name="sidecar", daemon=True)

    @classmethod
    def start(
        cls,
        status: Status,
        metrics: Metrics,
        port: int,
        metrics_port: int,
        host: str | None = None,
    ) -> Self:
        """Listen on both ports before this returns, then serve them from a thread.

        Without `host` on every address, of IPv6 and IPv4 alike: which of them probes and scrapes
        come by is the cluster's choice.

        Raises:
            StartRefusedError: A port is taken or not ours to use. Neither is then left open.
        """
        probes = listen(host, port, "PORT")
        try:
            scrapes = listen(host, metrics_port, "METRICS_PORT")
        except StartRefusedError:
            probes.close()
            raise
        sidecar = cls(
            (probes_app(status, metrics), probes), (metrics_app(metrics.registry), scrapes)
        )
        sidecar._thread.start()
        return sidecar

    def stop(self, timeout_s: float = 5.0) -> None:
        """Answer what is being asked, then close both ports. Idempotent."""
        for server in self._servers:
            server.should_exit = True
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:  # noqa: BLE001  (the thread ends here, whatever it was)
            # The probes go unanswered, which is what gets the process restarted.
            _log.exception("the sidecar stopped: probes and metrics are no longer served")

    async def _serve(self) -> None:
        pairs = zip(self._servers, self._sockets, strict=True)
        # Outside the main thread uvicorn leaves signals alone: they stay the flow's.
        await asyncio.gather(*(server.serve([listener]) for server, listener in pairs))


def _server(app: Starlette) -> Server:
    return Server(
        Config(
            _Guard(app),
            loop="asyncio",
            http=Connection,
            ws="none",
            lifespan="off",
            workers=1,  # given, so that WEB_CONCURRENCY in the environment is not asked
            log_config=None,  # whatever the process has set up for `logging`
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=_HEADERS,
            backlog=BACKLOG,
            limit_concurrency=SERVED,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=_REQUEST_HEAD_MAX_BYTES,
        )
    )
