"""The rules of the job over plain dictionaries, for baselines whose libraries hand those out."""

import zlib
from datetime import UTC, datetime
from typing import Any

CURRENCIES = frozenset({"USD", "EUR", "GBP", "CHF", "JPY", "SEK", "NOK", "DKK", "PLN", "CAD"})
_LONGEST = 255
_MOST = 10**12
_DECLINED_PERCENT = 2

Event = dict[str, Any]


def problem(request: Any) -> str | None:
    """Return what is wrong with a request; None when nothing is."""
    if not isinstance(request, dict):
        return "the record is not a JSON object"
    for name in ("paymentId", "userId", "paymentMethod"):
        text = request.get(name)
        if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST:
            return f"{name}: must be a string of 1 to {_LONGEST} characters"
    amount = request.get("amount")
    if not isinstance(amount, int | float) or not 0 < amount < _MOST:
        return "amount: must be above 0"
    if request.get("currency") not in CURRENCIES:
        return "currency: must be an ISO 4217 code"
    return None


def is_declined(payment_id: str) -> bool:
    """Return whether the simulated gateway declines: 2 %, always the same ones."""
    return zlib.crc32(payment_id.encode()) % 100 < _DECLINED_PERCENT


def now() -> str:
    """Return this instant, RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def outcome(request: Event, source: Event) -> Event:
    """Return the processed or failed event of a first request."""
    payment_id = request["paymentId"]
    event = {
        "eventId": f"{source['topic']}/{source['partition']}/{source['offset']}",
        "eventType": "payment.processed",
        "paymentId": payment_id,
        "userId": request["userId"],
        "amount": request["amount"],
        "currency": request["currency"],
        "paymentMethod": request["paymentMethod"],
        "metadata": request.get("metadata"),
        "source": source,
    }
    if is_declined(payment_id):
        error = {"code": "declined", "message": "The payment was declined.", "retryable": False}
        return event | {"eventType": "payment.failed", "error": error, "failedAt": now()}
    reference = f"sim_{zlib.crc32(payment_id.encode()):08x}"
    return event | {"gatewayReference": reference, "processedAt": now()}


def rejection(request: Any, why: str, source: Event) -> Event:
    """Return the failed event of an invalid request."""
    payment_id = request.get("paymentId") if isinstance(request, dict) else None
    return {
        "eventId": f"{source['topic']}/{source['partition']}/{source['offset']}",
        "eventType": "payment.failed",
        "paymentId": payment_id,
        "error": {"code": "invalid", "message": why, "retryable": False},
        "failedAt": now(),
        "source": source,
    }


def audit(of: Event, event_type: str | None = None) -> Event:
    """Return the audit event of an outcome; with `event_type`, of a request that has none."""
    event = {
        "eventId": of["eventId"],
        "eventType": event_type or of["eventType"],
        "paymentId": of["paymentId"],
        "source": of["source"],
        "occurredAt": now(),
    }
    for name in ("gatewayReference", "error"):
        if name in of:
            event[name] = of[name]
    return event


def duplicate(request: Event, source: Event) -> Event:
    """Return the audit event of a request whose paymentId was seen before."""
    return {
        "eventId": f"{source['topic']}/{source['partition']}/{source['offset']}",
        "eventType": "payment.duplicate",
        "paymentId": request["paymentId"],
        "source": source,
        "occurredAt": now(),
    }
