"""Which failed payments become new requests, and what these are.

1. Only a payment whose event has `error.retryable` is tried again: the gateway has decided that.
2. The new paymentId is the old one and a suffix with its generation: a function of the old one. So
   the same failure always gives the same request, to the byte, and the flow takes a second one for
   a duplicate, whatever became of the tool that sent the first.
3. What has an outcome already, or waits for one, is not sent again: that holds beyond the window
   within which the flow recognises duplicates. Nor is a failure whose own paymentId came again
   after the window, and was processed then, or waits.
4. A failure of generation `n` becomes a request of generation `n + 1`, up to a limit: nothing goes
   round in circles.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from schemas.events import FailedEvent
from schemas.outcomes import ErrorCode
from schemas.parsing import parse
from schemas.pending import seconds
from schemas.requests import MAX_TEXT, PaymentRequest

MARK = "~redrive-"
"""Between the first paymentId and the generation."""
ORIGIN, EVENT = "redrive-of", "redrive-event"
"""Headers of the new request: the paymentId and the eventId of the failure."""
_DERIVED = re.compile(rf"(?P<first>.*){MARK}(?P<generation>[1-9][0-9]{{0,8}})", re.DOTALL)
_decode = msgspec.json.Decoder(FailedEvent).decode
_encode = msgspec.json.Encoder().encode


class Skipped(StrEnum):
    """The reasons why a failure that was asked for is not sent."""

    FINAL = "not retryable"
    DONE = "already redriven"
    PROCESSED = "its paymentId came again, and was processed or waits for the gateway"
    GENERATION = "a redrive itself, of the last generation (--max-generation)"
    TOO_LONG = "its paymentId has no room for the suffix"
    LIMIT = "beyond --limit"
    UNREADABLE = "no event that this version can read"


class Choice(NamedTuple):
    """The failures that are asked for; None stands for all."""

    codes: frozenset[ErrorCode] | None = None
    currencies: frozenset[str] | None = None
    payment_ids: frozenset[str] | None = None
    since_s: float | None = None
    until_s: float | None = None
    max_generation: int = 1
    limit: int | None = None

    def has(self, event: FailedEvent) -> bool:
        """Return whether a failure is asked for."""
        if self.codes is None and not event.error.retryable and self.payment_ids is None:
            return False  # That is most of the topic, and no news.
        at_s = seconds(event.failed_at)
        return (
            (self.codes is None or event.error.code in self.codes)
            and (self.currencies is None or event.currency in self.currencies)
            and (self.payment_ids is None or event.payment_id in self.payment_ids)
            and (self.since_s is None or at_s >= self.since_s)
            and (self.until_s is None or at_s < self.until_s)
        )


class Redrive(NamedTuple):
    """A failure, and the request that it becomes."""

    event: FailedEvent
    request: PaymentRequest

    @property
    def value(self) -> bytes:
        """The request's record: a function of the failure."""
        return _encode(self.request)

    @property
    def headers(self) -> list[tuple[str, str | bytes | None]]:
        """Those of its record, which name its origin."""
        return [(ORIGIN, self.event.payment_id or ""), (EVENT, self.event.event_id)]


class Plan(NamedTuple):
    """The requests to send, and how many failures are left out, by reason."""

    redrives: list[Redrive]
    skipped: Counter[Skipped]


class Selection:
    """The failures of a topic that are asked for.

    Args:
        choice: Those.
        max_bytes: The largest request.
        pending_ids: The paymentIds that wait for the gateway.
    """

    def __init__(self, choice: Choice, max_bytes: int, pending_ids: Iterable[str]) -> None:
        self._choice = choice
        self._max_bytes = max_bytes
        self._events: dict[str, FailedEvent] = {}
        self._skipped: Counter[Skipped] = Counter()
        self._waiting = frozenset(pending_ids)
        self._failed_again: set[str] = set()
        self._processed: set[str] = set()

    def take_failed(self, values: Iterable[bytes | None]) -> None:
        """Take in records of the failed topic."""
        for value in values:
            try:
                event = _decode(value or b"")
                is_chosen = self._choice.has(event)
            except ValueError:
                self._skipped[Skipped.UNREADABLE] += 1
                continue
            payment_id = event.payment_id
            if payment_id is None:
                continue
            if MARK in payment_id:
                self._failed_again.add(payment_id)
            if is_chosen:
                # The last one: of a paymentId that came again after the window.
                self._events[payment_id] = event

    def take_processed(self, keys: Iterable[bytes | None]) -> None:
        """Take in the keys of the processed topic; all failures are taken in before."""
        for key in keys:
            payment_id = (key or b"").decode(errors="replace")
            if MARK in payment_id or payment_id in self._events:
                self._processed.add(payment_id)

    @property
    def oldest_s(self) -> float | None:
        """The time of the oldest failure: no redrive of them has been processed before."""
        return min((seconds(each.failed_at) for each in self._events.values()), default=None)

    def plan(self) -> Plan:
        """Return what to send, in the order of the failures."""
        redrives: list[Redrive] = []
        skipped = self._skipped.copy()
        for event in sorted(self._events.values(), key=lambda event: event.failed_at):
            found = self._redrive(event)
            if isinstance(found, Skipped):
                skipped[found] += 1
            elif self._choice.limit is not None and len(redrives) >= self._choice.limit:
                skipped[Skipped.LIMIT] += 1
            else:
                redrives.append(found)
        return Plan(redrives, skipped)

    def _redrive(self, event: FailedEvent) -> Redrive | Skipped:
        if not event.error.retryable:
            return Skipped.FINAL
        payment_id, generation = derived(event.payment_id or "")
        if generation > self._choice.max_generation:
            return Skipped.GENERATION
        if payment_id in self._failed_again or self._is_done(payment_id):
            return Skipped.DONE
        if self._is_done(event.payment_id):
            return Skipped.PROCESSED
        if len(payment_id) > MAX_TEXT:
            return Skipped.TOO_LONG
        request = request_of(event, payment_id, self._max_bytes)
        return Skipped.UNREADABLE if request is None else Redrive(event, request)

    def _is_done(self, payment_id: str | None) -> bool:
        return payment_id in self._processed or payment_id in self._waiting


def derived(payment_id: str) -> tuple[str, int]:
    """Return the paymentId of the next try, and its generation."""
    match = _DERIVED.fullmatch(payment_id)
    first, generation = (
        (payment_id, 0) if match is None else (match["first"], int(match["generation"]))
    )
    return f"{first}{MARK}{generation + 1}", generation + 1


def request_of(event: FailedEvent, payment_id: str, max_bytes: int) -> PaymentRequest | None:
    """Return the request of a declined payment under another paymentId; None if it is none."""
    fields: Mapping[str, object] = {
        "paymentId": payment_id,
        "userId": event.user_id,
        "amount": event.amount,
        "currency": event.currency,
        "paymentMethod": event.payment_method,
        "metadata": event.metadata,
    }
    present = {name: value for name, value in fields.items() if value is not UNSET}
    found = parse(_encode(present), max_bytes)
    return found if isinstance(found, PaymentRequest) else None
