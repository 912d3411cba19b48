"""Entries of the pending topic, and a topic of them."""

import json
from typing import Any

from msgspec import Raw, structs

from dataflow.core.lane_log import headers
from schemas import events, pending
from schemas.events import Records
from schemas.pending import PendingEntry, PendingState
from tests.support.fake_scan import FakeScan
from tests.support.required import REQUIRED

NOW_S = 1_767_225_600.0
TOPIC = "pending"
ENVIRON = {**REQUIRED, "KAFKA_TOPIC_PENDING": TOPIC}
LANE = headers(1, 4)
HOUR_S = 3600.0


def entry(
    payment_id: str = "pay_1",
    *,
    offset: int = 7,
    age_s: float = HOUR_S,
    amount: str = "10.00",
    currency: str = "USD",
    **changes: Any,
) -> PendingEntry:
    records = Records("requested", 2)
    request = {
        "paymentId": payment_id,
        "userId": "user_1",
        "amount": amount,
        "currency": currency,
        "paymentMethod": "pm_1",
    }
    found = PendingEntry(
        event_id=records.event_id(offset),
        payment_id=payment_id,
        request=Raw(json.dumps(request).encode()),
        source=records.source(offset),
        record_time_ms=int((NOW_S - age_s) * 1000),
        parked_at=events.instant(NOW_S - age_s),
        first_attempt_at=events.instant(NOW_S - age_s),
        attempts=3,
        attempts_parked=2,
        is_unsent=False,
        next_attempt_at=events.instant(NOW_S + 90),
        reason="no answer within 10 s",
    )
    return structs.replace(found, **changes)


def unresolved(payment_id: str, offset: int, **changes: Any) -> PendingEntry:
    none = {"state": PendingState.UNRESOLVED, "next_attempt_at": None}
    return entry(payment_id, offset=offset, **{**none, **changes})


def write(scan: FakeScan, *entries: PendingEntry) -> None:
    for each in entries:
        scan.put(TOPIC, pending.encode(each), each.event_id.encode(), LANE)


def end(scan: FakeScan, each: PendingEntry) -> None:
    """Write the tombstone of an entry."""
    scan.put(TOPIC, None, each.event_id.encode(), LANE)
