"""The only home of the retry rule: ask until every request has a definite reply.

1. Ask for the whole batch. Definite replies (approved, declined) are kept, whatever follows.
2. Ask again for the others only, under the same idempotency keys, after a pause drawn between zero
   and a bound ("full jitter", so that many processes do not come back in step). The bound doubles
   from 50 ms up to 5 s. A provider that demands a longer pause gets it, up to 5 s.
3. What was not executed, or is unknown, is charged again. What is pending, or unknown with a saved
   answer, is looked up from then on, and never charged again; also if the provider does not find
   it. Without a lookup there is only the charge, whose answer the same key repeats.
4. When the next attempt would start past the deadline, give up with a `GatewayFaultError`: the
   process ends, and its successor asks for the same payments again. The same goes for a gateway
   that is misconfigured, raises, or breaks the port's contract: to guess what it meant could lose
   a payment. Only the words of a reply are mended (see `dataflow.gateways.replies`), never its
   decision.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar, cast

from dataflow.errors import GatewayFaultError
from dataflow.gateways.port import (
    Approved,
    Declined,
    Definite,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Unknown,
    idempotency_key,
)
from dataflow.gateways.replies import Publishable, quoted
from schemas.requests import PaymentRequest

OnWait = Callable[[int, float, str], None]
"""Called before each pause: requests to ask again, the pause in seconds, the last reason."""
Slots = AbstractAsyncContextManager[object]
"""Held for as long as one call is in flight: a semaphore that all batches share."""

ChargeBatch = Callable[[Sequence[PaymentRequest]], Awaitable[Sequence[Reply]]]

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
_DEFINITE = {Approved, Declined}
_KINDS = {*_DEFINITE, NotExecuted, Unknown, Pending, Misconfigured}
_NOT_FOUND = Unknown("the provider has no payment under this key", saved=True)
_UNLIMITED: Slots = nullcontext()
_publishable = Publishable()
T = TypeVar("T")


async def charge_until_final(
    gateway: Gateway,
    requests: Sequence[PaymentRequest],
    *,
    deadline_s: float,
    slots: Slots = _UNLIMITED,
    on_wait: OnWait | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    draw: Callable[[], float] = random.random,
) -> list[Definite]:
    """Return one definite reply for each request, in their order; or raise `GatewayFaultError`.

    `deadline_s` bounds the whole batch, retries included, so a batch must not be larger than the
    gateway can charge in that time. `clock`, `sleep` and `draw` (0 to 1) are there for tests.
    """
    ends_s = clock() + deadline_s
    replies = await _ask(requests, deadline_s, _charge(gateway, requests, slots))
    looked_up: set[int] = set()
    bound_s = FIRST_PAUSE_S
    while not _DEFINITE.issuperset(map(type, replies)):
        waiting = [i for i, reply in enumerate(replies) if type(reply) not in _DEFINITE]
        if gateway.traits.has_lookup:
            looked_up.update(i for i in waiting if _is_to_be_looked_up(replies[i]))
        reason = _reason(replies[waiting[-1]])
        pause_s = max(draw() * bound_s, *(_demanded_s(replies[i]) for i in waiting))
        if clock() + pause_s >= ends_s:
            raise GatewayFaultError(
                f"no answer from the gateway for {len(waiting)} of {len(requests)} requests "
                f"within {deadline_s:g} s; last reason: {reason}; one of them is paymentId "
                f"{quoted(requests[waiting[-1]].payment_id)}"
            )
        if on_wait is not None:
            on_wait(len(waiting), pause_s, reason)
        await sleep(pause_s)
        for indexes, call in (
            ([i for i in waiting if i not in looked_up], _charge),
            ([i for i in waiting if i in looked_up], _look_up),
        ):
            asked = [requests[i] for i in indexes]
            if asked:
                again = await _ask(asked, ends_s - clock(), call(gateway, asked, slots))
                for i, reply in zip(indexes, again, strict=True):
                    replies[i] = reply
        bound_s = min(2 * bound_s, LONGEST_PAUSE_S)
    return cast("list[Definite]", replies)


def _is_to_be_looked_up(reply: Reply) -> bool:
    return isinstance(reply, Pending) or (isinstance(reply, Unknown) and reply.saved)


def _demanded_s(reply: Reply) -> float:
    """Return the pause that the provider demands: its word, so it may be any number."""
    pause_s = reply.retry_after_s if isinstance(reply, NotExecuted) else None
    return min(pause_s, LONGEST_PAUSE_S) if pause_s and pause_s > 0 else 0.0


def _reason(reply: Reply) -> str:
    if isinstance(reply, Pending):
        return f"pending: {quoted(reply.reference)}"
    return quoted(cast("NotExecuted | Unknown", reply).reason)


async def _charge(
    gateway: Gateway, requests: Sequence[PaymentRequest], slots: Slots
) -> Sequence[Reply]:
    # Not isinstance(gateway, BatchGateway): that looks up every method of the protocol.
    charge_batch: ChargeBatch | None = getattr(gateway, "charge_batch", None)
    if charge_batch is not None:
        return await charge_batch(requests)
    return await _each(gateway.charge, requests, slots)


async def _look_up(
    gateway: Gateway, requests: Sequence[PaymentRequest], slots: Slots
) -> Sequence[Reply]:
    found = await _each(gateway.lookup, requests, slots)
    return [_NOT_FOUND if reply is None else reply for reply in found]


async def _each(
    call: Callable[[PaymentRequest, str], Awaitable[T]],
    requests: Sequence[PaymentRequest],
    slots: Slots,
) -> list[T]:
    async def one(request: PaymentRequest) -> T:
        async with slots:
            return await call(request, idempotency_key(request.payment_id))

    return await asyncio.gather(*map(one, requests))


async def _ask(
    requests: Sequence[PaymentRequest], left_s: float, call: Coroutine[Any, Any, Sequence[Reply]]
) -> list[Reply]:
    """Ask once."""
    asked = f"{len(requests)} requests to the gateway"
    try:
        async with asyncio.timeout(left_s) as limit:
            replies = list(await call)
    except Exception as err:
        if limit.expired():
            raise GatewayFaultError(f"{asked}: it did not return by the deadline") from err
        raise GatewayFaultError(f"{asked}: it failed with {quoted(err)}") from err
    if len(replies) != len(requests):
        raise GatewayFaultError(f"{asked}: it gave {len(replies)} replies")
    kinds = set(map(type, replies))
    if unknown := kinds - _KINDS:
        names = ", ".join(sorted(kind.__name__ for kind in unknown))
        raise GatewayFaultError(f"{asked}: it replied with {names}")
    if Misconfigured in kinds:
        reason = next(each.reason for each in replies if isinstance(each, Misconfigured))
        raise GatewayFaultError(f"{asked}: it is misconfigured: {quoted(reason)}")
    return _publishable(requests, replies)
