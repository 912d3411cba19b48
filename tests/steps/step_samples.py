"""Records of one partition, and what travels between the steps, for tests of single steps."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from dataflow.core.items import (
    DedupedBatch,
    LaneBatch,
    LaneItem,
    RecordBatch,
    Remembered,
    SourceItem,
)
from dataflow.core.verdicts import Verdict
from dataflow.steps.decode import Decode
from schemas.headers import Headers
from schemas.parsing import parse
from schemas.requests import PaymentRequest, Rejected

MAX_BYTES = 100_000
READ_AT = 1_767_225_600.5
GARBAGE = b"\xff not JSON"
FIRST, DUPLICATE, CONFLICT = Verdict


def payment(payment_id: str = "pay_123", amount: float = 5, **changes: object) -> bytes:
    fields = {
        "paymentId": payment_id,
        "userId": "user_456",
        "amount": amount,
        "currency": "USD",
        "paymentMethod": "credit_card",
    }
    return msgspec.json.encode(fields | changes)


def parsed(value: bytes | None) -> PaymentRequest | Rejected:
    return parse(value, MAX_BYTES)


def request(payment_id: str = "pay_123", amount: float = 5) -> PaymentRequest:
    found = parsed(payment(payment_id, amount))
    assert isinstance(found, PaymentRequest)
    return found


def rejected(value: bytes | None = GARBAGE) -> Rejected:
    found = parsed(value)
    assert isinstance(found, Rejected)
    return found


def fetched(
    *values: bytes | None,
    first_offset: int = 0,
    partition: int = 0,
    committed: dict[int, int] | None = None,
    read_at: float = READ_AT,
    epoch: int = 0,
    headers: Mapping[int, Headers] | None = None,
) -> RecordBatch:
    offsets = np.arange(first_offset, first_offset + len(values))
    return RecordBatch(
        partition=partition,
        offsets=offsets,
        times_ms=offsets * 10,
        values=list(values),
        next_offset=first_offset + len(values),
        read_at=read_at,
        epoch=epoch,
        committed=committed or {},
        headers=headers or {},
    )


def decode(lanes: int, item: SourceItem) -> list[LaneItem]:
    """Return what the step emits."""
    return list(Decode(lanes, MAX_BYTES, lambda *_: None)(item))


def lane_batches(lanes: int, batch: RecordBatch) -> dict[int, LaneBatch]:
    return {int(key): item for key, item in decode(lanes, batch) if isinstance(item, LaneBatch)}


def lane_of(value: bytes | None, lanes: int) -> int:
    (lane,) = lane_batches(lanes, fetched(value))
    return lane


def one_lane(*values: bytes | None, **where: Any) -> LaneBatch:
    """Return the batch of a flow with a single lane; `where` is as for `fetched`."""
    return lane_batches(1, fetched(*values, **where))[0]


def judged(
    *records: tuple[PaymentRequest | Rejected, Verdict],
    partition: int = 0,
    first_offset: int = 0,
    first_origin: int = 0,
    headers: Mapping[int, Headers] | None = None,
) -> DedupedBatch:
    offsets = list(range(first_offset, first_offset + len(records)))
    return DedupedBatch(
        partition=partition,
        next_offset=first_offset + len(records),
        read_at=READ_AT,
        offsets=offsets,
        times_ms=np.array(offsets, np.int64) * 10,
        verdicts=[int(verdict) for _, verdict in records],
        first_origins=[first_origin] * len(records),
        parsed=[found for found, _ in records],
        entries=b"entries",
        remembered=Remembered(ids=7, since_s=5),
        headers=headers or {},
    )
