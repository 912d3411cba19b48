"""One call to a gateway: how a payment is asked for, and what counts as a reply.

A gateway that raises, hangs, or breaks the port's contract has not answered: nothing that it does
ends the process. Only the words of a reply are mended (`dataflow.gateways.replies`), never its
decision.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from dataflow.core.charging import CallKind
from dataflow.core.lane_queue import Charge
from dataflow.core.retry_schedule import Ask, way_to_ask
from dataflow.gateways.call_counts import DEFINITE, CallCounts, kind_of
from dataflow.gateways.decimals import can_be_written
from dataflow.gateways.port import (
    BatchGateway,
    Declined,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Unknown,
    idempotency_key,
    not_taken,
)
from dataflow.gateways.replies import Publishable, quoted
from dataflow.gateways.time_limit import TimeLimit
from dataflow.observability import tracing
from dataflow.observability.tracing import Span
from schemas.headers import Headers
from schemas.requests import PaymentRequest

_T = TypeVar("_T")

_log = structlog.get_logger()

_KINDS = DEFINITE | {NotExecuted, Unknown, Pending, Misconfigured}
_MOST_S = 120.0
"""A gateway gives a call up by itself, much sooner. One that does not must not keep its place in
the window for ever."""
_LOG_EVERY_S = 1.0


class Calls:
    """The calls to one gateway, made on its loop.

    Attributes:
        counts: What was asked, and what came of it.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.counts = CallCounts()
        self._gateway = gateway
        self._publishable = Publishable()
        self._limit = TimeLimit(_MOST_S)
        self._logged_s: defaultdict[str, float] = defaultdict(lambda: -_LOG_EVERY_S)

    def way(self, charge: Charge) -> Ask:
        """Return how a payment may be asked for now, by the age of its key."""
        traits = self._gateway.traits
        if charge.is_unresolved:
            # A person may have paid it in another way.
            return Ask.LOOK_UP if traits.has_lookup else Ask.NOTHING
        age_s = time.time() - charge.first_asked_s
        return way_to_ask(age_s, traits.key_life_s, can_look_up=traits.has_lookup)

    def has_old_key(self, charge: Charge) -> bool:
        """Return whether the key is so old that nothing was posted for an hour at least."""
        age_s, life_s = time.time() - charge.first_asked_s, self._gateway.traits.key_life_s
        return way_to_ask(age_s, life_s, can_look_up=True) is not Ask.POST

    async def reply(self, charge: Charge) -> Reply | None:
        """Return the reply about a payment; None if a look-up has found no charge."""
        way = self.way(charge)
        if _is_decided(charge):
            if not self._gateway.traits.has_lookup:
                return None
            return await self.look_up(charge)
        if way is Ask.NOTHING:
            return None
        # The age of a key that another run has used is only as right as a record's timestamp.
        looks_first = charge.look_up or charge.may_be_charged
        if way is Ask.LOOK_UP or (looks_first and self._gateway.traits.has_lookup):
            found = await self.look_up(charge)
            if (
                found is not None
                or charge.look_up
                or charge.is_unresolved
                or not (charge.may_be_charged or charge.is_unsent)
            ):
                return found
            if _is_decided(charge):
                return found  # A person was quicker: it is not posted any more.
            # It was claimed, or parked, and not charged: it is new.
            charge.may_be_charged = False
            if way is Ask.LOOK_UP:
                charge.first_asked_s = time.time()
        return await self._posted(charge)

    async def look_up(self, charge: Charge) -> Reply | None:
        """Return the answer that a payment had; None if there is no charge."""
        request, key = charge.request, idempotency_key(charge.request.payment_id)
        return await self._asked(
            CallKind.LOOK_UP, lambda: self._gateway.lookup(request, key), charge
        )

    async def _posted(self, charge: Charge) -> Reply | None:
        """Have a payment charged, unless the provider takes no such amount."""
        request, key = charge.request, idempotency_key(charge.request.payment_id)
        decimals = self._gateway.traits.decimals
        if decimals is not None and not can_be_written(request.amount, request.currency, decimals):
            return not_taken(request)
        self.counts.key_replays += charge.may_be_charged or not charge.is_unsent
        was_unsent, charge.is_unsent = charge.is_unsent, False
        charge.posted_s = time.monotonic()
        reply = await self._asked(
            CallKind.CHARGE, lambda: self._gateway.charge(request, key), charge
        )
        charge.is_unsent = was_unsent and _was_not_executed(reply)
        return reply

    async def _asked(
        self, kind: CallKind, ask: Callable[[], Awaitable[Reply | None]], charge: Charge
    ) -> Reply | None:
        began_s, began_ns = time.monotonic(), time.time_ns()
        reply = await self._answered(ask, charge)
        seconds, traced = time.monotonic() - began_s, [charge.headers]
        self.counts.replied(kind, reply, seconds, tracing.trace_id(traced))
        tracing.record(Span.GATEWAY, traced, began_ns, call=kind.value, reply=kind_of(reply))
        return reply

    async def _answered(
        self, ask: Callable[[], Awaitable[Reply | None]], charge: Charge
    ) -> Reply | None:
        try:
            reply = await self._bounded(ask)
        except Exception as error:  # noqa: BLE001  (whatever a gateway does: it is no answer)
            self._report("gateway raised an error", reason=quoted(error))
            return Unknown(quoted(error))
        if reply is None:
            return None
        if type(reply) not in _KINDS:
            self._report("gateway broke its contract", reply=type(reply).__name__)
            return Unknown(f"it replied with {type(reply).__name__}")
        return self._publishable([charge.request], [reply], [charge.headers])[0]

    async def replies(
        self,
        gateway: BatchGateway,
        requests: Sequence[PaymentRequest],
        headers: Sequence[Headers] = (),
    ) -> list[Reply]:
        """Return the replies about payments that are charged as a whole.

        The headers are aligned with the requests, unless none of these has any.
        """
        began_s, began_ns = time.monotonic(), time.time_ns()
        found = await self._answered_at_once(gateway, requests, headers)
        self.counts.replied_to_all(found, time.monotonic() - began_s, tracing.trace_id(headers))
        ended_ns = time.time_ns()
        for each, reply in zip(headers, found, strict=False):
            tracing.record(
                Span.GATEWAY,
                [each],
                began_ns,
                ended_ns,
                call=CallKind.CHARGE.value,
                reply=kind_of(reply),
            )
        return found

    async def _answered_at_once(
        self,
        gateway: BatchGateway,
        requests: Sequence[PaymentRequest],
        headers: Sequence[Headers],
    ) -> list[Reply]:
        try:
            replies = list(await self._bounded(lambda: gateway.charge_batch(requests)))
        except Exception as error:  # noqa: BLE001  (whatever a gateway does: it is no answer)
            self._report("gateway raised an error", reason=quoted(error))
            return [Unknown(quoted(error))] * len(requests)
        if len(replies) != len(requests) or not _KINDS.issuperset(map(type, replies)):
            self._report("gateway broke its contract", replies=len(replies))
            return [Unknown("it broke its contract")] * len(requests)
        return self._publishable(requests, replies, headers)

    async def probe(self) -> Reply | None:
        """Return why a charge would fail now; None if the gateway finds nothing."""
        self.counts.probed()
        try:
            return await self._bounded(self._gateway.probe)
        except Exception as error:  # noqa: BLE001  (as above)
            return Unknown(quoted(error))

    async def _bounded(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return what a gateway returns, in time; that it cancels a call is an error like others.

        Only our own end cancels the task, and that goes on.
        """
        try:
            return await self._limit.within(ask())
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("the gateway cancelled the call") from error

    def _report(self, event: str, **what: object) -> None:
        """Log one line a second of a kind at most."""
        now_s = time.monotonic()
        if now_s - self._logged_s[event] >= _LOG_EVERY_S:
            self._logged_s[event] = now_s
            _log.error(event, **what)


def _was_not_executed(reply: Reply | None) -> bool:
    """Return whether a charge certainly did not happen."""
    return isinstance(reply, NotExecuted) or (isinstance(reply, Declined) and reply.is_refusal)


def _is_decided(charge: Charge) -> bool:
    """Return whether a person has decided by now; it may happen during any call."""
    return charge.decision is not None


def reason_of(reply: object) -> str:
    """Return why a reply is no answer, for the log and the pending entry."""
    if reply is None:
        return "the provider has no such charge"
    if isinstance(reply, Pending):
        return f"pending: {quoted(reply.reference)}"
    return quoted(getattr(reply, "reason", ""))
