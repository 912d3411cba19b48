"""The entry of a parked payment on the pending topic, from what is known of it, and back."""

import msgspec
from msgspec import Raw, structs

from dataflow.core.lane_queue import Charge
from schemas import events
from schemas.events import Source
from schemas.pending import MAX_REASON, PendingEntry, PendingState, seconds

_encode = msgspec.json.Encoder().encode


def charge_of(lane: int, entry: PendingEntry) -> Charge:
    """Return a payment that an earlier run has parked."""
    return Charge(
        lane,
        entry.payment(),
        seconds(entry.first_attempt_at),
        attempts=entry.attempts,
        reason=entry.reason,
        # It was parked before its first attempt ended; what followed left no entry.
        may_be_settled=not entry.attempts,
        is_unsent=not entry.attempts,
        parked=entry,
        attempts_parked=entry.attempts_parked,
        next_attempt_s=None if entry.next_attempt_at is None else seconds(entry.next_attempt_at),
        is_unresolved=entry.state is PendingState.UNRESOLVED,
    )


def entry_of(charge: Charge, event_id: str, source: Source, now_s: float) -> PendingEntry:
    """Return the entry of a payment that is parked now."""
    return PendingEntry(
        event_id=event_id,
        payment_id=charge.request.payment_id,
        state=_state(charge),
        request=Raw(_encode(charge.request)),
        source=source,
        parked_at=events.instant(now_s),
        first_attempt_at=events.instant(charge.first_asked_s),
        attempts=charge.attempts,
        attempts_parked=0,
        next_attempt_at=_instant(charge.next_attempt_s),
        reason=charge.reason[:MAX_REASON],
    )


def after_an_attempt(charge: Charge, entry: PendingEntry) -> PendingEntry:
    """Return the entry of a payment that was asked for again, and got no answer."""
    return structs.replace(
        entry,
        state=_state(charge),
        attempts=charge.attempts,
        attempts_parked=charge.attempts_parked,
        next_attempt_at=_instant(charge.next_attempt_s),
        reason=charge.reason[:MAX_REASON],
    )


def _state(charge: Charge) -> PendingState:
    return PendingState.UNRESOLVED if charge.is_unresolved else PendingState.PENDING


def _instant(at_s: float | None) -> str | None:
    return None if at_s is None else events.instant(at_s)
