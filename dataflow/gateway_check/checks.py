"""The plays: each charges one payment, disturbs it, and reports whether one guarantee holds.

What a provider has in its book cannot be seen from here. A guarantee holds if all answers are those
of a provider that keeps it: one reference for one key, whatever happened on the way. So it takes
payments that are approved, with a reference: two declines are alike, also if both were attempts.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from dataflow.gateways.http import HttpGateway
from dataflow.gateways.mapping_shape import HttpMapping, headers_of
from dataflow.gateways.port import (
    Approved,
    Declined,
    Definite,
    Misconfigured,
    Reply,
    idempotency_key,
)
from dataflow.gateways.replies import NO_REFERENCE, Publishable, quoted
from schemas.requests import PaymentRequest

_AT_ONCE = 8
_ATTEMPTS = 30
"""The times that an answer which is not definite is asked for again."""
_PAUSE_S = 0.2
_publishable = Publishable()

Sleep = Callable[[float], Awaitable[object]]
MakeRequest = Callable[..., PaymentRequest]
"""Returns a payment that is new, or has the paymentId and the amount that are given."""


class Finding(NamedTuple):
    """The result of one play."""

    guarantee: str
    holds: bool | None
    """None: it was not tried, for the reason in `detail`."""
    detail: str


class Provider(NamedTuple):
    """The provider to check, and the way to reach it without the gateway."""

    gateway: HttpGateway
    url: str
    mapping: HttpMapping
    headers: dict[str, str]
    """The credentials."""
    tls: ssl.SSLContext | None
    new_request: MakeRequest
    sleep: Sleep = asyncio.sleep


async def play(provider: Provider) -> AsyncIterator[Finding]:
    """Yield a finding for each guarantee; the first two must hold for the others to be tried."""
    probe = await provider.gateway.probe()
    detail = "no trouble" if probe is None else shown(probe)
    if provider.mapping.probe is None:
        yield Finding("the probe answers", None, "the mapping has no [probe]")
    else:
        yield Finding("the probe answers", probe is None, detail)
    first = provider.new_request()
    answer = await _definite(provider, first)
    holds = isinstance(answer, Approved) and answer.reference != NO_REFERENCE
    yield Finding("a payment is approved, with a reference", holds, shown(answer))
    if isinstance(answer, Approved) and holds:
        for check in (_replay, _other_content, _lookup):
            yield await check(provider, first, answer)
        yield await _at_once(provider)
        yield await _lost_answer(provider)


async def _replay(provider: Provider, request: PaymentRequest, answer: Definite) -> Finding:
    again = await _charge(provider, request)
    detail = shown(again) if again == answer else f"first {shown(answer)}, then {shown(again)}"
    return Finding("the same key has the same answer", again == answer, detail)


async def _other_content(provider: Provider, request: PaymentRequest, _: Definite) -> Finding:
    other = provider.new_request(payment_id=request.payment_id, more=1)
    answer = await _charge(provider, other)
    name = "other content under a used key is refused"
    return Finding(name, not isinstance(answer, Definite), shown(answer))


async def _lookup(provider: Provider, request: PaymentRequest, answer: Definite) -> Finding:
    name = "the lookup finds what was charged, and nothing else"
    if not provider.gateway.traits.has_lookup:
        detail = "the mapping has no [lookup]: a payment whose key has expired needs a person"
        return Finding(name, None, detail)
    found = await _look_up(provider, request)
    if found != answer:
        return Finding(name, holds=False, detail=f"charged {shown(answer)}, found {shown(found)}")
    nothing = await _look_up(provider, provider.new_request())
    return Finding(name, nothing is None, f"of a payment that was never charged: {shown(nothing)}")


async def _at_once(provider: Provider) -> Finding:
    request = provider.new_request()
    answers: Sequence[Reply] = await asyncio.gather(
        *(_charge(provider, request) for _ in range(_AT_ONCE))
    )
    final = await _definite(provider, request)
    name = f"{_AT_ONCE} requests with one key at the same time are one charge"
    return _one_answer(name, [*answers, final])


async def _lost_answer(provider: Provider) -> Finding:
    request = provider.new_request()
    name = "a charge whose answer was lost is charged once"
    try:
        await _send_and_hang_up(provider, request)
    except OSError as error:
        return Finding(name, holds=False, detail=quoted(error))
    await provider.sleep(_PAUSE_S)
    answers = [await _definite(provider, request), await _definite(provider, request)]
    return _one_answer(name, answers)


def _one_answer(name: str, answers: Sequence[Reply | None]) -> Finding:
    """Return whether all definite answers are the same one, and there is one."""
    definite = {each for each in answers if isinstance(each, Definite)}
    words = ", ".join(sorted(shown(each) for each in definite)) or shown(answers[-1])
    return Finding(name, len(definite) == 1, words)


async def _send_and_hang_up(provider: Provider, request: PaymentRequest) -> None:
    """Send a charge in full, and close the connection before there is an answer."""
    key = idempotency_key(request.payment_id)
    body = provider.mapping.body_of(request, key, provider.mapping.units()) or b""
    parts = urlsplit(provider.url + provider.mapping.charge.path)
    secure = parts.scheme == "https"
    headers = {
        "Host": parts.netloc,
        **provider.headers,
        **headers_of(provider.mapping, key),
        "Content-Length": str(len(body)),
    }
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    _, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl=(provider.tls or ssl.create_default_context()) if secure else None,
    )
    writer.write(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
    await writer.drain()
    writer.close()


async def _definite(provider: Provider, request: PaymentRequest) -> Reply | None:
    """Charge until the answer is definite, or a person is needed; the last answer otherwise."""
    answer: Reply | None = None
    for _ in range(_ATTEMPTS):
        answer = await _charge(provider, request)
        if isinstance(answer, Definite | Misconfigured):
            break
        await provider.sleep(_PAUSE_S)
    return answer


async def _charge(provider: Provider, request: PaymentRequest) -> Reply:
    reply = await provider.gateway.charge(request, idempotency_key(request.payment_id))
    return _publishable([request], [reply])[0]


async def _look_up(provider: Provider, request: PaymentRequest) -> Reply | None:
    reply = await provider.gateway.lookup(request, idempotency_key(request.payment_id))
    return None if reply is None else _publishable([request], [reply])[0]


def shown(reply: Reply | None) -> str:
    """Return a reply in a few words, fit for a terminal."""
    if reply is None:
        return "not found"
    name = type(reply).__name__.lower()
    if isinstance(reply, Approved):
        return f"{name} {quoted(reply.reference)}"
    if isinstance(reply, Declined):
        return f"{name} {quoted(reply.code)}: {quoted(reply.message)}"
    return f"{name}: {quoted(getattr(reply, 'reason', getattr(reply, 'reference', '')))}"
