"""Payment requests to charge."""

import json
from itertools import count

import msgspec

from schemas.requests import PaymentRequest

_numbers = count(1)


def new_id(*, ending: str = "") -> str:
    """Return a paymentId that no other test in the process has: a provider keeps its book.

    Args:
        ending: What becomes of it, for providers that decide by that.
    """
    return f"pay_{next(_numbers)}{ending}"


def make_request(payment_id: str = "pay_123", **changes: object) -> PaymentRequest:
    """Return a valid request; `changes` are fields by their JSON names."""
    fields = {
        "paymentId": payment_id,
        "userId": "user_456",
        "amount": 99.99,
        "currency": "USD",
        "paymentMethod": "credit_card",
    }
    return msgspec.json.decode(json.dumps(fields | changes), type=PaymentRequest)


def make_requests(number: int, prefix: str = "pay_") -> list[PaymentRequest]:
    return [make_request(f"{prefix}{i}") for i in range(number)]
