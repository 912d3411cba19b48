"""One request and event of each kind, as the whole flow makes them, in memory."""

import time
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import patch

import msgspec
import numpy as np
from bytewax.testing import TestingSink, run_main

from dataflow.config.settings import Settings
from dataflow.core.items import OutputBatch, RecordBatch, SinkItem
from dataflow.core.lane_queue import Charge
from dataflow.core.parked import entry_of
from dataflow.flow import flow
from dataflow.runtime import Runtime
from schemas import pending
from schemas.events import Records
from schemas.parsing import parse
from schemas.requests import PaymentRequest
from tests.support.answered_source import AnsweredSource
from tests.support.required import REQUIRED
from tests.support.signals import opening, restoring

DECIDED_AT = 1_769_851_800.123
PARTITION, FIRST_OFFSET = 3, 42
REQUEST = (
    b'{"paymentId":"pay_123","userId":"user_456","amount":99.990,"currency":"USD",'
    b'"paymentMethod":"credit_card","metadata":{"orderId":"order_789"}}'
)


def _other(old: bytes, new: bytes) -> bytes:
    assert REQUEST.count(old) == 1
    return REQUEST.replace(old, new)


RECORDS: dict[str, bytes | None] = {
    "approved": REQUEST,
    "duplicate": REQUEST,
    "conflict": _other(b"99.990", b"99.95"),
    "declined": _other(b"pay_123", b"pay_124:decline:insufficient_funds"),
    "invalid": _other(b"pay_123", b"pay_125").replace(b"99.990", b"99.995"),
    "unreadable": b"pay_126;99.99;USD",
    "tombstone": None,
}
"""The records of the request topic, by what they are examples of."""


def events() -> dict[str, dict[str, bytes]]:
    """Return the events of each record: by its name, and by the topic's setting."""
    offsets = np.arange(FIRST_OFFSET, FIRST_OFFSET + len(RECORDS))
    batch = RecordBatch(
        partition=PARTITION,
        offsets=offsets,
        times_ms=offsets,
        values=[*RECORDS.values()],
        next_offset=FIRST_OFFSET + len(RECORDS),
        read_at=DECIDED_AT,
    )
    runtime = Runtime(Settings.from_env(REQUIRED | {"SIMULATED_DECLINE_RATE": "0"}))
    sink: list[tuple[str, SinkItem]] = []
    clock = SimpleNamespace(time=lambda: DECIDED_AT, monotonic=time.monotonic)
    with closing(runtime.charging), patch("dataflow.steps.process.time", clock):
        start = [signal(PARTITION, FIRST_OFFSET) for signal in (opening, restoring)]
        graph = flow(AnsweredSource([*start, batch], runtime), TestingSink(sink), runtime)
        run_main(graph, epoch_interval=timedelta(0))  # type: ignore[no-untyped-call]
    kafka = runtime.context.settings.kafka
    names = {kafka.topic_processed: "outcome", kafka.topic_failed: "outcome"}
    found: dict[str, dict[str, bytes]] = {name: {} for name in RECORDS}
    batches = [outgoing for _, outgoing in sink if isinstance(outgoing, OutputBatch)]
    for outgoing in batches:
        for value in outgoing.values:
            offset = msgspec.json.decode(value)["source"]["offset"]
            record = [*RECORDS][offset - FIRST_OFFSET]
            found[record][names.get(outgoing.topic, "audit")] = value
    return found


def pending_entry() -> bytes:
    """Return the entry of the first request, had the gateway not answered."""
    request = parse(REQUEST, len(REQUEST))
    assert isinstance(request, PaymentRequest)
    records = Records("payments.payment-requested", PARTITION)
    charge = Charge(
        lane=0,
        request=request,
        first_asked_s=DECIDED_AT - 4,
        attempts=1,
        reason="no answer within 10 s",
        next_attempt_s=DECIDED_AT + 60,
    )
    entry = entry_of(
        charge,
        records.event_id(FIRST_OFFSET),
        records.source(FIRST_OFFSET),
        int(DECIDED_AT * 1000) - 4_250,
        DECIDED_AT,
    )
    return pending.encode(entry)


def readable(value: bytes) -> str:
    """Return the same JSON, digit by digit, on lines that can be read."""
    return msgspec.json.format(value, indent=2).decode()
