"""Puts ids into a recovery store as if the product had seen them, in seconds instead of minutes.

A small flow with the step ids of the product resumes its store, after a clean stop: its source
gives the ids to the product's own `remember`, and then snapshots the position it had resumed from,
with a ledger that knows of the new segments. To the product, all these ids came with the records
before that position.
"""

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, run_main
from msgspec import structs

from dataflow.batches import Identities
from dataflow.core.ledger import MAX_RECORDS, Ledger
from dataflow.steps.decode import MemoryItem
from dataflow.steps.remember import Remember
from schemas.requests import IDENTITY_BYTES
from schemas.state import SourceState, pack, unpack

_WINDOW_MS = 7 * 24 * 3600 * 1000
Item = tuple[str, MemoryItem]


class _Partition(StatefulSourcePartition[Item, bytes]):
    def __init__(self, number: int, ids: int, state: SourceState) -> None:
        self._state = state
        self._ledger = Ledger(number, _WINDOW_MS, state.ledger)
        self._batches = self._make(number, ids)

    def _make(self, number: int, ids: int) -> Iterator[Item]:
        random = np.random.default_rng(number)
        now_ms = int(time.time() * 1000)
        last = self._state.next_offset - 1
        for start in range(0, ids, MAX_RECORDS):
            count = min(MAX_RECORDS, ids - start)
            # A segment of its own for each batch: only then are there as few as in a long run.
            segment = self._ledger.add(last, last + 1, MAX_RECORDS, now_ms)
            identities = Identities(
                first_offset=last,
                offsets=np.full(count, last, np.int64),
                identities=random.bytes(count * IDENTITY_BYTES),
                arrived_ms=now_ms,
            )
            yield self._ledger.name(segment), identities

    def next_batch(self) -> list[Item]:
        return [next(self._batches)]

    def snapshot(self) -> bytes:
        return pack(structs.replace(self._state, ledger=self._ledger.state()))


class _Source(FixedPartitionedSource[Item, bytes]):
    def __init__(self, partitions: int, ids: int) -> None:
        self._partitions = partitions
        self._ids = ids

    def list_parts(self) -> list[str]:
        return [f"{number:05d}" for number in range(self._partitions)]

    def build_part(self, _step_id: str, for_part: str, resume_state: bytes | None) -> _Partition:
        if resume_state is None:
            raise RuntimeError(f"partition {for_part} has no snapshot: run the product first")
        state = unpack(resume_state, SourceState)
        return _Partition(int(for_part), self._ids // self._partitions, state)


def prefill(store: Path, partitions: int, ids: int) -> None:
    """Add `ids` random ids to the store of a product that was stopped cleanly."""
    flow = Dataflow("payments")
    given = op.input("source", flow, _Source(partitions, ids))
    remembered = op.stateful_batch("remember", given, Remember.builder(lanes=1))
    op.output("out", remembered, TestingSink([]))
    recovery = RecoveryConfig(str(store))  # type: ignore[no-untyped-call]
    # An epoch for each batch: the snapshot of a segment is written once, when it is whole.
    run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    prefill(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
