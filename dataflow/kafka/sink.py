"""The sink: the lanes, as the engine sees them."""

from collections.abc import Callable

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from dataflow.config.settings import KafkaSettings
from dataflow.core.items import OutputBatch
from dataflow.core.lanes import MAX_LANES, lane_name
from dataflow.kafka.commit_pool import CommitPool
from dataflow.kafka.lane_transaction import Lane
from dataflow.kafka.preflight import Cluster
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import Status
from dataflow.service.fail_fast import fail_fast
from dataflow.service.shutdown import Lifecycle


class KafkaSink(FixedPartitionedSink[OutputBatch, bytes]):
    """The lanes, as the engine sees them."""

    def __init__(
        self,
        kafka: KafkaSettings,
        lanes: int,
        status: Status,
        metrics: Metrics,
        lifecycle: Lifecycle,
        cluster: Cluster,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._built = 0
        self._on_close = on_close
        self._commits = CommitPool()
        self._kafka = kafka
        self._lanes = lanes
        self._status = status
        self._metrics = metrics
        self._lifecycle = lifecycle

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
        if int(for_part) >= self._lanes:
            return UnusedLane(self._on_close)
        self._built += 1
        self._status.assign((), lanes=self._built)
        return Lane(
            self._kafka,
            int(for_part),
            self._lanes,
            status=self._status,
            metrics=self._metrics,
            commits=self._commits,
            cluster=self._cluster,
            lifecycle=self._lifecycle,
            on_close=self._on_close,
        )


class UnusedLane(StatefulSinkPartition[OutputBatch, bytes]):
    """A lane there was when `LANES` was larger; the source has fenced it."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close

    def write_batch(self, values: list[OutputBatch]) -> None:
        """Ignore the call: nothing is ever routed here."""
        raise RuntimeError(f"{len(values)} batches for a lane that does not exist")

    def snapshot(self) -> bytes:
        """Return nothing, as any lane does."""
        return b""

    def close(self) -> None:
        """Let go."""
        self._on_close()
