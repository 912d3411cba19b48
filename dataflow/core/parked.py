"""The entry of a parked payment on the pending topic, from what is known of it, and back."""

from typing import NamedTuple

import msgspec
from msgspec import Raw, structs

from dataflow.core.lane_queue import Charge
from schemas import events
from schemas.events import Source
from schemas.headers import Headers
from schemas.pending import MAX_REASON, PendingEntry, PendingState, seconds

_encode = msgspec.json.Encoder().encode


class Restored(NamedTuple):
    """An entry as an earlier run has left it."""

    entry: PendingEntry
    headers: Headers
    """Those of its request that are passed on; the record of the entry keeps them."""


def charge_of(lane: int, restored: Restored) -> Charge:
    """Return a payment that an earlier run has parked."""
    entry = restored.entry
    # Without an attempt that ended, it was parked before the first one did.
    is_unsent = entry.is_unsent or not entry.attempts
    return Charge(
        lane,
        entry.payment(),
        seconds(entry.first_attempt_at),
        attempts=entry.attempts,
        reason=entry.reason,
        # What followed in that run left no entry.
        may_be_charged=is_unsent,
        is_unsent=is_unsent,
        parked=entry,
        attempts_parked=entry.attempts_parked,
        next_attempt_s=None if entry.next_attempt_at is None else seconds(entry.next_attempt_at),
        is_unresolved=entry.state is PendingState.UNRESOLVED,
        headers=restored.headers,
    )


def entry_of(
    charge: Charge, event_id: str, source: Source, time_ms: int, now_s: float
) -> PendingEntry:
    """Return the entry of a payment that is parked now, with the timestamp of its record."""
    return PendingEntry(
        event_id=event_id,
        payment_id=charge.request.payment_id,
        state=_state(charge),
        request=Raw(_encode(charge.request)),
        source=source,
        record_time_ms=time_ms,
        parked_at=events.instant(now_s),
        first_attempt_at=events.instant(charge.first_asked_s),
        attempts=charge.attempts,
        attempts_parked=0,
        is_unsent=charge.is_unsent,
        next_attempt_at=_instant(charge.next_attempt_s),
        reason=charge.reason[:MAX_REASON],
    )


def after_an_attempt(charge: Charge, entry: PendingEntry) -> PendingEntry:
    """Return the entry of a payment that was asked for again, and got no answer."""
    return structs.replace(
        entry,
        state=_state(charge),
        # Later than before if a look-up has shown that nothing was charged.
        first_attempt_at=events.instant(charge.first_asked_s),
        attempts=charge.attempts,
        is_unsent=charge.is_unsent,
        attempts_parked=charge.attempts_parked,
        next_attempt_at=_instant(charge.next_attempt_s),
        reason=charge.reason[:MAX_REASON],
    )


def _state(charge: Charge) -> PendingState:
    return PendingState.UNRESOLVED if charge.is_unresolved else PendingState.PENDING


def _instant(at_s: float | None) -> str | None:
    return None if at_s is None else events.instant(at_s)
