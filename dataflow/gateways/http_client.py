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
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from dataflow.gateways.port import Misconfigured, NotExecuted, Unknown

MAX_BODY_BYTES = 1024 * 1024
"""The largest answer that is read: lists of payments are the largest that we ask for."""
_CONNECT_S = 5.0
"""The time for address, connection and handshake: after it, certainly nothing was sent."""


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


class _Request(aiohttp.ClientRequest):
    """A request that is sent only on a connection that is silent; any other one is closed."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        # The pool looks at this when a connection comes back, not when it is taken again.
        if conn.protocol is None or conn.protocol.should_close:
            raise UnaskedAnswerError
        return await super().send(conn)


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
        self._headers = dict(headers)
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response | Trouble:
        """Send one request, once; `path` is encoded already, with its query."""
        try:
            async with self._opened().request(
                method,
                URL(self._base_url + path, encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
            ) as response:
                content = await _read(response)
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
        except (aiohttp.ClientError, OSError, ValueError) as err:
            return Unknown(f"the answer was lost: {_name(err)}")
        if content is None:
            return Unknown(f"HTTP {response.status}, an answer of more than {MAX_BODY_BYTES} bytes")
        return Response(response.status, response.headers, content)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            # The transports of TLS connections are closed in the next turns of the loop.
            await asyncio.sleep(0)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The caller has a window of its own, so a limit here would only hide its queue.
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s, connect=_CONNECT_S),
                request_class=_Request,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body; None if it is too long."""
    parts = []
    size = 0
    async for part in response.content.iter_any():
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


def retry_after_s(response: Response) -> float | None:
    """Return the pause that the provider demands in seconds; None if there is no such number."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < 10 else None  # noqa: PLR2004  (31 years)
