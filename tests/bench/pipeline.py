"""The product's own work on a payment, without Kafka and without the engine: from bytes to bytes.

`python -m tests.bench.pipeline product:N` sends `PREPARED` batches N times through the steps, and
`reference:N` through the least that Python can do with them. `test_cost.py` counts the instructions
of both, and a profiler shows where they go. Of several runs each has a process of its own, forked
once all is imported and made, and its id is printed.
"""

import asyncio
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from msgspec import json

from dataflow.core.items import ControlMessage, RecordBatch, Signal
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_queue import QueuedBatch
from dataflow.dedupe.remembered import RememberedIds
from dataflow.gateways.dispatcher import Dispatcher, Limits
from dataflow.gateways.simulated import ImmediateGateway
from dataflow.steps.decode import Decode
from dataflow.steps.dedupe import Dedupe, Expiry, NoLog
from dataflow.steps.process import NothingPending, Process
from dataflow.steps.publish import Audit, Failed, Pending, Processed, Progress, outcomes_only
from tests.bench.load import requests
from tests.support.signals import opening, restoring

BATCH = 2_000
PREPARED = 6
"""Many, so that a run differs from one that does nothing by little but the work."""
LANES = 8
_MAX_BYTES = 1_000_000
_START = 1_767_225_600
_MEMORY_BYTES = 256 * 1024 * 1024
_WINDOW_MS = 7 * 24 * 3600 * 1000


class InThisThread(Dispatcher):
    """A dispatcher without a thread of its own, so that what it does is counted as well."""

    def charge_batches(self, batches: Sequence[QueuedBatch]) -> bool:
        """Charge the batches before it returns."""
        assert self._batches is not None
        asyncio.run(self._charge_batches(self._batches, batches))
        return True


class Pipeline:
    """The steps, put together by hand."""

    def __init__(self) -> None:
        self._epoch = 0
        self._decode = Decode(LANES, _MAX_BYTES, lambda _valid, _invalid: None)
        build = Dedupe.builder(
            lambda _number, _ids: None,
            NoLog(),
            RememberedIds(_WINDOW_MS, _MEMORY_BYTES).open,
            Expiry(_WINDOW_MS, [0]),
            _MAX_BYTES,
        )
        self._lanes = {f"{lane:03d}": build(None) for lane in range(LANES)}
        for signal in (opening(), restoring()):
            for key, control in self._decode(signal):
                self._lanes[key].on_batch([control])
        board = LaneBoard()
        charging = InThisThread(ImmediateGateway(), Limits(), board)
        self._process = Process(
            "requested", charging, NothingPending(), board, lambda _seconds, _records, _trace: None
        )
        topics = (
            (Processed, "processed"),
            (Failed, "failed"),
            (Audit, "audit"),
        )
        self._branches = [kind(topic, _MAX_BYTES) for kind, topic in topics]
        self._pending, self._progress = Pending("pending"), Progress()

    def run(self, batch: RecordBatch) -> int:
        """Take one batch to its end; how many records it would publish."""
        self._epoch += 2
        published = self._take(replace(batch, epoch=self._epoch))
        # The next epoch proves that the claims are committed.
        return published + self._take(ControlMessage(Signal.WAKE, 0, 0, epoch=self._epoch + 1))

    def _take(self, item: RecordBatch | ControlMessage) -> int:
        judged = []
        for key, each in self._decode(item):
            judged += [(key, one) for one in self._lanes[key].on_batch([each])[0]]
        published = 0
        for decided in self._process(judged):
            self._progress(decided)
            if (outcomes := outcomes_only(decided)) is None:
                continue
            for branch in self._branches:
                outgoing = branch(outcomes)
                published += len(outgoing[1].values) if outgoing else 0
        return published


def batches(count: int) -> list[RecordBatch]:
    """Return so many batches of requests."""
    values = [value for _, value in requests("bench-", count * BATCH)]
    return [
        RecordBatch(
            partition=0,
            offsets=np.arange(start, start + BATCH),
            times_ms=np.full(BATCH, _START * 1000),
            values=list(values[start : start + BATCH]),
            next_offset=start + BATCH,
            read_at=float(_START),
        )
        for start in range(0, count * BATCH, BATCH)
    ]


def reference(batch: RecordBatch) -> int:
    """Decode each request, look its id up in a set, and encode two events: no more than that."""
    seen: set[str] = set()
    published = 0
    for offset, value in zip(batch.offsets.tolist(), batch.values, strict=True):
        request = _decode(value or b"")
        payment_id = request["paymentId"]
        if payment_id in seen:
            continue
        seen.add(payment_id)
        source = {"topic": "requested", "partition": 0, "offset": offset}
        reply = zlib.crc32(payment_id.encode())
        event = {**request, "source": source, "gatewayReference": reply}
        audit = {"paymentId": payment_id, "source": source, "gatewayReference": reply}
        published += bool(_encode(event)) + bool(_encode(audit))
    return published


_decode = json.Decoder(dict).decode
_encode = json.Encoder().encode


def play(run: str, prepared: list[RecordBatch]) -> None:
    """Send the batches through `what`, so often as `what:times` has it."""
    what, _, times = run.partition(":")
    work: Callable[[RecordBatch], int] = reference if what == "reference" else Pipeline().run
    for each in prepared * int(times):
        work(each)


def main(runs: list[str]) -> int:
    """Play the runs, one after the other; return the exit code."""
    prepared = batches(PREPARED)
    if len(runs) == 1:
        play(runs[0], prepared)
        return 0
    for run in runs:
        child = os.fork()
        if child == 0:
            play(run, prepared)
            os._exit(0)
        print(child, flush=True)
        if os.waitpid(child, 0)[1]:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
