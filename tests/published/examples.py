"""One request and event of each kind, as the whole flow makes them, in memory."""

import time
from collections.abc import Iterator
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
from schemas.headers import Headers
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


TRACEPARENT = (
    "traceparent",
    b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


def events() -> dict[str, dict[str, bytes]]:
    """Return the events of each record: by its name, and by the topic's setting."""
    found: dict[str, dict[str, bytes]] = {name: {} for name in RECORDS}
    for kind, outgoing in _published():
        for value in outgoing.values:
            found[_record_of(value)][kind] = value
    return found


def headers() -> dict[str, Headers]:
    """Return the headers of the first request's events, with all that they may have."""
    found = {}
    for kind, outgoing in _published(KAFKA_CLOUDEVENTS="binary"):
        for value, each in zip(outgoing.values, outgoing.headers, strict=True):
            if _record_of(value) == "approved":
                found[kind] = each
    return found


def _record_of(event: bytes) -> str:
    offset: int = msgspec.json.decode(event)["source"]["offset"]
    return [*RECORDS][offset - FIRST_OFFSET]


def _published(**environ: str) -> Iterator[tuple[str, OutputBatch]]:
    """Yield what the flow makes of the records, each with the kind of its topic."""
    offsets = np.arange(FIRST_OFFSET, FIRST_OFFSET + len(RECORDS))
    batch = RecordBatch(
        partition=PARTITION,
        offsets=offsets,
        times_ms=offsets,
        values=[*RECORDS.values()],
        next_offset=FIRST_OFFSET + len(RECORDS),
        read_at=DECIDED_AT,
        headers={FIRST_OFFSET: [TRACEPARENT]},
    )
    runtime = Runtime(Settings.from_env(REQUIRED | {"SIMULATED_DECLINE_RATE": "0"} | environ))
    sink: list[tuple[str, SinkItem]] = []
    clock = SimpleNamespace(time=lambda: DECIDED_AT, monotonic=time.monotonic)
    with closing(runtime.charging), patch("dataflow.steps.process.time", clock):
        start = [signal(PARTITION, FIRST_OFFSET) for signal in (opening, restoring)]
        graph = flow(AnsweredSource([*start, batch], runtime), TestingSink(sink), runtime)
        run_main(graph, epoch_interval=timedelta(0))  # type: ignore[no-untyped-call]
    kafka = runtime.context.settings.kafka
    names = {kafka.topic_processed: "outcome", kafka.topic_failed: "outcome"}
    for _, outgoing in sink:
        if isinstance(outgoing, OutputBatch):
            yield names.get(outgoing.topic, "audit"), outgoing


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
