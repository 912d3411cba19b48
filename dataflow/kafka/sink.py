"""The sink: the lanes, as the engine sees them."""

from collections.abc import Callable

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from dataflow.core.items import SinkItem
from dataflow.core.lanes import MAX_LANES, lane_name
from dataflow.kafka.commit_pool import CommitPool
from dataflow.kafka.lane_transaction import Lane
from dataflow.process_context import ProcessContext
from dataflow.service.fail_fast import fail_fast


class KafkaSink(FixedPartitionedSink[SinkItem, bytes]):
    """The lanes, as the engine sees them."""

    def __init__(
        self,
        context: ProcessContext,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._context = context
        self._built = 0
        self._on_close = on_close
        self._commits = CommitPool()

    def list_parts(self) -> list[str]:
        """Return the names of all possible lanes."""
        return [lane_name(lane) for lane in range(MAX_LANES)]

    def part_fn(self, item_key: str) -> int:
        """Return the lane an item goes to: its key is the lane's name."""
        return int(item_key)

    @fail_fast
    def build_part(
        self,
        step_id: str,  # noqa: ARG002  (the engine's signature)
        for_part: str,
        resume_state: bytes | None,  # noqa: ARG002
    ) -> "Lane | UnusedLane":
        """Open a lane, which fences its previous owner."""
        if int(for_part) >= self._context.settings.lanes:
            return UnusedLane(self._on_close)
        self._built += 1
        self._context.status.assign((), lanes=self._built)
        return Lane(self._context, int(for_part), self._commits, self._on_close)


class UnusedLane(StatefulSinkPartition[SinkItem, bytes]):
    """A lane there was when `LANES` was larger; the source has fenced it."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close

    def write_batch(self, values: list[SinkItem]) -> None:
        """Ignore the call: nothing is ever routed here."""
        raise RuntimeError(f"{len(values)} batches for a lane that does not exist")

    def snapshot(self) -> bytes:
        """Return nothing, as any lane does."""
        return b""

    def close(self) -> None:
        """Let go."""
        self._on_close()
