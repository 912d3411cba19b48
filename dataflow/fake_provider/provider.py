"""A request on its way through the provider.

In this order, which is that of Stripe: the network, the credentials, the limits, the request's
form, its key, the payment, the answer. What fails before the key leaves no trace under it.
"""

import asyncio
import hmac
import random
import socket
import struct
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, NoReturn, Protocol

import msgspec
from aiohttp import web
from msgspec import Struct

from dataflow.fake_provider.behaviour import (
    MISSING,
    Decision,
    Fault,
    FaultRule,
    Limiter,
    Settings,
    choose,
    decide,
)
from dataflow.fake_provider.book import Book, Payment, Refused, Saved

_HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_LINGER_0 = struct.pack("ii", 1, 0)


class Problem(Enum):
    """The reasons for an answer that is about no payment."""

    UNAUTHORIZED = 401
    TOO_MANY = 429
    IN_FLIGHT = 409
    OTHER_CONTENT = 400
    INTERNAL = 500
    UNAVAILABLE = 503
    NO_METHOD = 402


class Call(Struct, frozen=True, kw_only=True):
    """A charge, whatever its shape was."""

    endpoint: str
    key: str
    content: str
    """Whatever is compared with a later request under the same key."""
    payment_id: str
    customer: str
    method: str
    amount: int
    currency: str


class Shape(Protocol):
    """The form of requests and answers."""

    prefix: str
    """Of the provider's ids."""

    def read(self, request: web.Request, body: bytes) -> Call | Saved:
        """Return the charge, or the answer to a request that is not well-formed."""
        ...

    def answer(self, payment: Payment) -> Saved:
        """Return the answer with a payment."""
        ...

    def problem(self, problem: Problem) -> Saved:
        """Return the answer to a problem."""
        ...


class Provider:
    """The provider, apart from its shapes."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.settings = msgspec.convert(book.settings(), Settings)
        self._limiter = Limiter()
        self._random = random.Random(1)  # noqa: S311  (faults, no secrets)

    def change(self, changes: dict[str, Any]) -> None:
        """Change settings, also for the next process; `msgspec.ValidationError` for a wrong one."""
        known = msgspec.to_builtins(self.settings)
        self.settings = msgspec.convert(known | changes, Settings)
        self.book.write_settings(changes)

    def add_fault(self, rule: FaultRule) -> None:
        """Add a fault, for this process only."""
        self.settings.faults.append(rule)

    def is_authorised(self, request: web.Request) -> bool:
        """Return whether a request has the right credentials."""
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given, f"Bearer {self.settings.secret}")

    async def charge(self, request: web.Request, shape: Shape) -> web.StreamResponse:
        """Answer a charge, or fail as the settings have it."""
        call = shape.read(request, await request.read())
        payment_id = call.payment_id if isinstance(call, Call) else ""
        fault = choose(self.settings.faults, payment_id, time.time(), self._random.random)
        failed = await self._fail_before(request, shape, fault)
        if failed is not None:
            return failed
        refused = self._refuse(request, shape)
        if refused is not None:
            return self._response(refused)
        if isinstance(call, Saved):
            return self._response(call)
        if self.settings.is_another_account:
            return self._response(shape.problem(Problem.NO_METHOD))
        answer, replayed = await self._under_key(call, shape, fault)
        failed = await self._fail_after(request, answer, fault)
        return failed or self._response(answer, replayed=replayed)

    def _refuse(self, request: web.Request, shape: Shape) -> Saved | None:
        if not self.is_authorised(request):
            return shape.problem(Problem.UNAUTHORIZED)
        if self._limiter.refuses(self.settings, time.monotonic()):
            return shape.problem(Problem.TOO_MANY)
        return None

    async def _fail_before(
        self, request: web.Request, shape: Shape, fault: Fault | None
    ) -> web.Response | None:
        match fault:
            case Fault.RESET_BEFORE:
                reset(request)
            case Fault.HANG_BEFORE:
                await self._hang(request)
            case Fault.HTML_BEFORE:
                return _proxy_error()
            case Fault.UNAVAILABLE:
                return self._response(shape.problem(Problem.UNAVAILABLE))
        return None

    async def _fail_after(
        self, request: web.Request, answer: Saved, fault: Fault | None
    ) -> web.Response | None:
        match fault:
            case Fault.RESET_AFTER:
                reset(request)
            case Fault.HANG_AFTER:
                await self._hang(request)
            case Fault.HTML_AFTER:
                return _proxy_error()
            case Fault.HALF_A_BODY:
                await _send_half(request, answer)
        return None

    async def _under_key(self, call: Call, shape: Shape, fault: Fault | None) -> tuple[Saved, bool]:
        """Return the answer that is saved for the key, or execute the charge."""
        settings, now_s = self.settings, time.time()
        if not settings.ignores_keys:
            content = "" if settings.ignores_content else call.content
            claimed = self.book.claim(call.endpoint, call.key, content, now_s, settings.key_life_s)
            if isinstance(claimed, Saved):
                return claimed, True
            if claimed is Refused.OTHER_CONTENT:
                return shape.problem(Problem.OTHER_CONTENT), False
            if claimed is Refused.IN_FLIGHT and settings.waits_in_flight:
                return shape.problem(Problem.IN_FLIGHT), False
        async with self._in_flight():
            return self._execute(call, shape, fault), False

    @asynccontextmanager
    async def _in_flight(self) -> AsyncIterator[None]:
        self._limiter.in_flight += 1
        try:
            await asyncio.sleep(self.settings.latency_s)
            yield
        finally:
            self._limiter.in_flight -= 1

    def _execute(self, call: Call, shape: Shape, fault: Fault | None) -> Saved:
        decision = decide(call.method, call.payment_id)
        if decision.status == MISSING:
            self.book.release(call.endpoint, call.key)
            return shape.problem(Problem.NO_METHOD)
        if fault is Fault.UNSAVED_500_BEFORE:
            self.book.release(call.endpoint, call.key)
            return shape.problem(Problem.INTERNAL)
        payment = self._payment(call, shape, decision)
        answer = shape.answer(payment)
        match fault:
            case Fault.SAVED_500_BEFORE:
                self.book.execute(call.endpoint, call.key, shape.problem(Problem.INTERNAL), None)
                answer = shape.problem(Problem.INTERNAL)
            case Fault.SAVED_500_AFTER | Fault.SAVED_500_LATE:
                if fault is Fault.SAVED_500_LATE:
                    payment.created_s += self.settings.finish_after_s
                answer = shape.problem(Problem.INTERNAL)
                self.book.execute(call.endpoint, call.key, answer, payment)
            case _:
                self.book.execute(call.endpoint, call.key, answer, payment)
        return answer

    def _payment(self, call: Call, shape: Shape, decision: Decision) -> Payment:
        now_s = time.time()
        late = decision.finishes_as is not None
        # The payer of `acts_late` has already confirmed when the answer is on its way.
        wait_s = self.settings.finish_after_s if decision.status == "processing" else 0.0
        return Payment(
            id=shape.prefix + uuid.uuid4().hex[:24],
            idempotency_key=call.key,
            payment_id=call.payment_id,
            customer=call.customer,
            method=call.method,
            amount=call.amount,
            currency=call.currency,
            status=decision.status,
            code=decision.code,
            advice=decision.advice,
            created_s=now_s,
            finishes_s=now_s + wait_s if late else None,
            finishes_as=decision.finishes_as,
        )

    def _response(self, answer: Saved, *, replayed: bool = False) -> web.Response:
        headers = {"Idempotent-Replayed": "true"} if replayed else {}
        retry_after_s = self.settings.retry_after_s
        if answer.status in {429, 503} and retry_after_s is not None:
            headers["Retry-After"] = str(retry_after_s)
        return web.Response(
            status=answer.status,
            body=answer.body,
            content_type="application/json",
            headers=headers,
        )

    async def _hang(self, request: web.Request) -> NoReturn:
        await asyncio.sleep(self.settings.hang_s)
        reset(request)


def _proxy_error() -> web.Response:
    return web.Response(status=502, body=_HTML, content_type="text/html")


def reset(request: web.Request) -> NoReturn:
    """Close the connection so that the client sees a reset, and end the handling of the request."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        request.transport.abort()
    raise ConnectionResetError


async def _send_half(request: web.Request, answer: Saved) -> NoReturn:
    response = web.StreamResponse(
        status=answer.status, headers={"Content-Type": "application/json"}
    )
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError
