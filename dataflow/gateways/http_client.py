"""HTTP for gateways, on aiohttp: what became of a call, with no exception for trouble on the way.

    trouble                                         reply
    no address, no connection, failed handshake     NotExecuted
    an answer before the request                    NotExecuted
    a certificate that is not trusted               Misconfigured
    anything after the request may have been sent   Unknown

Redirects are not followed: they would send a charge, and the credentials, to another address.

HTTP/1.1 has no numbers: the next answer on a connection is that of the next request. So a request
is never sent on a connection that has an answer already (a server that answers twice, a proxy that
answers an idle connection): this payment would get the decision about another one.

Connections and the parser of answers are aiohttp's; what is sent is written here, in one piece. Its
session takes more than twice the CPU for a call: it has cookies, redirects, and a task for the
body of each request.
"""

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import aiohttp
import msgspec
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Struct
from yarl import URL

from dataflow.gateways.port import Misconfigured, NotExecuted, Unknown
from dataflow.gateways.time_limit import TimeLimit

MAX_BODY_BYTES = 1024 * 1024
"""The largest answer that is read: lists of payments are the largest that we ask for."""
_CONNECT_S = 5.0
"""The time for address, connection and handshake: after it, certainly nothing was sent."""
_CONTINUED = range(100, 200)
"""Statuses that another answer follows, but for one."""
_SWITCHED = 101


class Response(Struct, frozen=True):
    """An answer, whole."""

    status: int
    headers: Mapping[str, str]
    """By name, in any case."""
    body: bytes


Trouble = NotExecuted | Unknown | Misconfigured
T = TypeVar("T")


class UnaskedAnswerError(aiohttp.ClientError):
    """The connection has data that no request has asked for. Nothing was sent."""


class _Connections(NamedTuple):
    """The open connections to one provider."""

    pool: aiohttp.TCPConnector
    address: aiohttp.ClientRequest
    """Never sent: by it the pool knows where to connect to."""
    timeout: aiohttp.ClientTimeout
    """For a new one: an answer has the time of the whole call."""


class HttpClient:
    """Connections to one provider, which are opened by the first call.

    Args:
        base_url: Scheme, host, and the beginning of all paths.
        timeout_s: For one call, from its begin to the last byte of its answer.
        headers: Sent with each call.
        tls: The trusted authorities and the client certificate; by default those of the system.

    Raises:
        ValueError: A header is none, for the credentials in it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise ValueError("the credentials have characters that no HTTP header can have")
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._limit = TimeLimit(timeout_s)
        host = URL(self._base_url).host_port_subcomponent or ""
        usual = {str(name): value for name, value in aiohttp.ClientRequest.DEFAULT_HEADERS.items()}
        usual = {"Host": host, "User-Agent": SERVER_SOFTWARE} | usual
        self._lines = _lines_of(usual) | _lines_of(headers)
        self._tls = tls
        self._connections: _Connections | None = None

    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response | Trouble:
        """Send one request, once; `path` is encoded already, with its query."""
        try:
            request = self._written(method, path, headers, body)
            return await self._limit.within(self._answered(method, request))
        except aiohttp.ClientConnectorCertificateError as err:
            return Misconfigured(f"its certificate is not trusted: {err.certificate_error}")
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            UnaskedAnswerError,
        ) as err:
            return NotExecuted(f"no connection: {_name(err)}")
        except TimeoutError:
            return Unknown(f"no answer within {self._timeout_s:g} s")
        except (
            aiohttp.ClientError,
            HttpProcessingError,
            aiohttp.EofStream,
            OSError,
            ValueError,
        ) as err:
            return Unknown(f"the answer was lost: {_name(err)}")

    async def close(self) -> None:
        """Close all connections."""
        if self._connections is not None:
            await self._connections.pool.close()
            # The transports of TLS connections are closed in the next turns of the loop.
            await asyncio.sleep(0)

    def _opened(self) -> _Connections:
        if self._connections is None:
            # The caller has a window of its own, so a limit here would only hide its queue.
            pool = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
            loop = asyncio.get_running_loop()
            address = aiohttp.ClientRequest("GET", URL(self._base_url), loop=loop)
            timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S)
            self._connections = _Connections(pool, address, timeout)
        return self._connections

    def _written(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes
    ) -> bytes:
        """Return a request as it is sent; `ValueError` for a header that is none."""
        lines = self._lines | _lines_of(headers or {})
        if body or method != "GET":
            lines["content-length"] = f"Content-Length: {len(body)}"
        first = f"{method} {_target(self._base_url + path)} HTTP/1.1"
        head = "\r\n".join((first, *lines.values(), "", ""))
        return head.encode() + body

    async def _answered(self, method: str, request: bytes) -> Response | Trouble:
        try:
            return await self._answered_once(request)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as err:
            # The server may have closed the connection just before. What changes nothing is sent
            # once more; and nothing was sent if there was no connection.
            if method != "GET" or isinstance(err, aiohttp.ClientConnectorError):
                raise
        return await self._answered_once(request)

    async def _answered_once(self, request: bytes) -> Response | Trouble:
        pool, address, timeout = self._opened()
        try:
            connection = await pool.connect(address, [], timeout)
        except TimeoutError as err:
            raise aiohttp.ConnectionTimeoutError from err
        try:
            protocol = _silent(connection)
            protocol.set_response_params(read_until_eof=True)
            assert protocol.transport is not None
            protocol.transport.write(request)
            message, payload = await protocol.read()
            while message.code in _CONTINUED and message.code != _SWITCHED:
                message, payload = await protocol.read()
            content = await _read(payload)
        except BaseException:
            connection.close()
            raise
        # One that is to be closed, or has more than the answer, is not kept.
        connection.release()
        if content is None:
            reason = f"HTTP {message.code}, an answer of more than {MAX_BODY_BYTES} bytes"
            return Unknown(reason)
        return Response(message.code, message.headers, content)


def _silent(connection: aiohttp.connector.Connection) -> ResponseHandler:
    """Return the protocol of a connection that has nothing to be read, nor had.

    The pool looks at this when a connection comes back, not when it is taken again.
    """
    protocol = connection.protocol
    if protocol is None or protocol.should_close:
        raise UnaskedAnswerError
    return protocol


@lru_cache(maxsize=64)
def _target(url: str) -> str:
    """Return the part of an address that a request has."""
    return URL(url, encoded=True).raw_path_qs


def _lines_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as they are sent, by name in lower case."""
    if not all(map(str.isprintable, headers.values())):
        raise ValueError("a header has characters that none can have")
    return {name.lower(): f"{name}: {value}" for name, value in headers.items()}


async def _read(payload: aiohttp.StreamReader) -> bytes | None:
    """Return the body; None if it is too long."""
    parts = []
    size = 0
    while not payload.at_eof():
        part = await payload.readany()
        size += len(part)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _name(err: BaseException) -> str:
    """Return the kind of an error, with the system's own one: its text may quote an address."""
    inner = getattr(err, "os_error", None) or err.__cause__
    return type(err).__name__ + (f" ({type(inner).__name__})" if inner is not None else "")


def read(response: Response, kind: type[T]) -> T | None:
    """Return the body, which is JSON, as that; None if it is something else."""
    try:
        return msgspec.json.decode(response.body, type=kind)
    except (ValueError, RecursionError):
        # Not only msgspec's own errors: a text that is not UTF-8, and brackets within brackets.
        return None


def is_too_many(response: Response) -> bool:
    """Return whether it was one call too many."""
    return response.status == HTTPStatus.TOO_MANY_REQUESTS


def retry_after_s(response: Response) -> float | None:
    """Return the pause that the provider demands in seconds; None if it names none.

    It may name a number, or an instant: the pause is then from the answer's own `Date`, since our
    clock is not the provider's. Without that, an instant is no pause.
    """
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text) if len(text) < 10 else None  # noqa: PLR2004  (31 years)
    until_s, now_s = _instant_s(text), _instant_s(response.headers.get("Date", ""))
    return None if until_s is None or now_s is None else max(0.0, until_s - now_s)


def _instant_s(text: str) -> float | None:
    """Return an HTTP date, which is in GMT, in seconds since 1970; None if it is none."""
    try:
        return parsedate_to_datetime(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
