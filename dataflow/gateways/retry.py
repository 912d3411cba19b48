"""The only home of the retry rule: ask until every request has a definite reply.

1. Ask for the whole batch. Definite replies (approved, declined) are kept, whatever follows.
2. Ask again for the unavailable ones only, under the same idempotency keys, after a pause drawn
   between zero and a bound ("full jitter", so that many processes do not come back in step).
   The bound doubles from 50 ms up to 5 s.
3. When the next attempt would start past the deadline, give up with a `GatewayFaultError`: the
   process ends, and its successor asks for the same payments again. The same goes for a gateway
   that raises, or breaks the port's contract: to guess what it meant could lose a payment.
   Only the words of a reply are mended (see `dataflow.gateways.replies`), never its decision.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from dataflow.errors import GatewayFaultError
from dataflow.gateways.port import Approved, Declined, Gateway, Reply, Unavailable
from dataflow.gateways.replies import Publishable, quoted
from schemas.requests import PaymentRequest

Definite = Approved | Declined
OnWait = Callable[[int, float, str], None]
"""Called before each pause: requests to ask again, the pause in seconds, the last reason."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
_KINDS = {Approved, Declined, Unavailable}
_publishable = Publishable()


async def charge_until_final(
    gateway: Gateway,
    requests: Sequence[PaymentRequest],
    *,
    deadline_s: float,
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
    replies, complete = await _ask(gateway, requests, deadline_s)
    waiting: Sequence[int] = range(len(replies))
    bound_s = FIRST_PAUSE_S
    while not complete:
        waiting = [i for i in waiting if type(replies[i]) is Unavailable]
        reason = quoted(cast("Unavailable", replies[waiting[-1]]).reason)
        pause_s = draw() * bound_s
        if clock() + pause_s >= ends_s:
            raise GatewayFaultError(
                f"no answer from the gateway for {len(waiting)} of {len(requests)} requests "
                f"within {deadline_s:g} s; last reason: {reason}; one of them is paymentId "
                f"{quoted(requests[waiting[-1]].payment_id)}"
            )
        if on_wait is not None:
            on_wait(len(waiting), pause_s, reason)
        await sleep(pause_s)
        again, complete = await _ask(gateway, [requests[i] for i in waiting], ends_s - clock())
        for i, reply in zip(waiting, again, strict=True):
            replies[i] = reply
        bound_s = min(2 * bound_s, LONGEST_PAUSE_S)
    return cast("list[Definite]", replies)


async def _ask(
    gateway: Gateway, requests: Sequence[PaymentRequest], left_s: float
) -> tuple[list[Reply], bool]:
    """Ask once: the replies, and whether all of them are definite."""
    asked = f"{len(requests)} requests to the gateway"
    try:
        async with asyncio.timeout(left_s) as limit:
            replies = list(await gateway.charge(requests))
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
    return _publishable(requests, replies), Unavailable not in kinds
