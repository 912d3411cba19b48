"""The parts of one process: settings, status, metrics, gateway; put together, not started."""

from collections.abc import Callable, Mapping

from bytewax.inputs import Source
from bytewax.outputs import Sink

from dataflow import __version__
from dataflow.config.settings import Settings
from dataflow.core.epochs import Epochs
from dataflow.core.items import SinkItem, SourceItem
from dataflow.core.lane_board import LaneBoard
from dataflow.core.unwrapped import UnwrapRecords
from dataflow.dedupe.remembered import RememberedIds
from dataflow.dedupe.tiered import TieredIndex
from dataflow.gateways import registry
from dataflow.gateways.dispatcher import Dispatcher, Limits
from dataflow.kafka.lane_log import LaneLog
from dataflow.kafka.lane_log_trimmer import Trimmer
from dataflow.kafka.lane_offsets import LaneOffsets
from dataflow.kafka.partition_offsets import Ends
from dataflow.kafka.pending_topic import PendingTopic
from dataflow.kafka.retry import OutageRetry
from dataflow.kafka.sink import KafkaSink
from dataflow.kafka.source import ASK_MOST_S, KafkaSource
from dataflow.kafka.watcher import Watcher
from dataflow.observability import tracing
from dataflow.observability.engine_metrics import EngineMetrics
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import About, Status
from dataflow.process_context import Cluster, ProcessContext
from dataflow.service.command_line import Launch
from dataflow.service.shutdown import Lifecycle
from dataflow.steps.dedupe import Log, NoLog
from dataflow.steps.process import NothingPending, Pending
from dataflow.steps.publish import Encode
from schemas.events import EVENT_OVERHEAD_BYTES

_IDS = "remembered-ids"
"""The directory in the recovery directory with the files of remembered ids."""
_STARTUP_GRACE_S = 120.0
"""The time until the first epoch has closed, with an empty recovery store."""
_LOAD_BYTES_PER_S = 10e6
"""The speed at which the engine loads the store, at the least."""


class Runtime:
    """The parts of one process, put together but not started.

    Attributes:
        context: What the parts share; without a cluster before the process is started.
        max_request_bytes: The largest request whose outcome fits the output topics.
        board: What the lanes of this process show its sources.
        charging: The gateway.
        pending: What earlier runs have parked; nothing before the process is started.
        log: What the lanes have claimed; nothing before the process is started.
        ids: What the lanes of this process remember.
        encoders: How the events of a topic become bytes, where that is not plain JSON.
    """

    def __init__(self, settings: Settings, running: Launch | None = None) -> None:
        kafka = settings.kafka
        self.max_request_bytes = kafka.message_max_bytes - EVENT_OVERHEAD_BYTES
        status = _status(settings, running)
        shared = running is not None and running.processes * running.workers > 1
        self.board = LaneBoard()
        self.charging = _dispatcher(settings, running, self.board)
        self.context = ProcessContext(
            settings=settings,
            status=status,
            metrics=Metrics(
                status,
                input_topic=kafka.topic_requested,
                output_topics=(kafka.topic_pending, *kafka.topics_published),
                log_topic=kafka.topic_lane_log,
            ),
            lifecycle=Lifecycle(status),
            epochs=Epochs(settings.commit_interval_s, shared),
            charging=self.charging,
        )
        self.pending: Pending = NothingPending()
        self.log: Log = NoLog()
        self.encoders: Mapping[str, Encode] = {}
        self._close_formats: Callable[[], None] = lambda: None
        self.ids = RememberedIds(settings.dedupe_window_ms, settings.dedupe_memory_bytes)
        status.charging = self.charging.figures
        status.id_files_fail = lambda: self.ids.figures.are_failing
        self._ids_dir = running.recovery_dir / _IDS if running and running.recovery_dir else None
        self._log_ends = Ends(kafka.topic_lane_log)
        self._offsets = LaneOffsets(kafka, settings.lanes, self.context.cluster)
        self.engine_metrics: EngineMetrics | None = None

    def connect(self, found: Cluster, retry: OutageRetry) -> None:
        """Take in what was found of the cluster."""
        self.context = self.context.with_cluster(found)
        settings = self.context.settings
        self._offsets = LaneOffsets(settings.kafka, settings.lanes, found, retry)
        self.ids = RememberedIds(
            settings.dedupe_window_ms,
            settings.dedupe_memory_bytes,
            self._ids_dir,
            found.cluster_id,
            found.log_id,
            settings.lanes,
        )
        self.log = LaneLog(self.context, self._offsets, self._log_ends, retry, retry.sit_out)
        self.pending = PendingTopic(self.context, self._offsets, retry, retry.sit_out)

    def use_formats(
        self,
        encoders: Mapping[str, Encode],
        unwrap: UnwrapRecords,
        close: Callable[[], None],
    ) -> None:
        """Take in how events are written, and how requests that name a schema are read."""
        self.encoders = encoders
        self.context = self.context._replace(unwrap=unwrap)
        self._close_formats = close

    def watch(self, *, trims: bool) -> None:
        """Start to look at the cluster; one process of all also trims the lanes' log."""
        Watcher(self.context, self._log_ends).start()
        if trims:
            settings, cluster = self.context.settings, self.context.cluster
            window_s = settings.dedupe_window_ms / 1000
            Trimmer(settings.kafka, settings.lanes, cluster, window_s).start()

    def source(self) -> Source[SourceItem]:
        """Return the request topic."""
        return KafkaSource(self.context, self._offsets, self._close_engine_metrics)

    def sink(self) -> Sink[tuple[str, SinkItem]]:
        """Return the sink: the output topics, and the lanes' log."""
        return KafkaSink(self.context, self._close)

    def open_ids(self, lane: int) -> TieredIndex:
        """Open the index of a lane; if its files cannot be written, all of them are checked."""
        with self.context.status.waiting("files of remembered ids"):
            return self.ids.open(lane)

    def _close_engine_metrics(self) -> None:
        # The engine cannot take down its web server while it answers a scrape.
        if self.engine_metrics:
            self.engine_metrics.close()

    def _close(self) -> None:
        """End with the sink: only then no worker has anything left to charge."""
        self._close_engine_metrics()
        self.charging.close()
        self._close_formats()
        self.ids.close()
        tracing.stop()


def _status(settings: Settings, running: Launch | None) -> Status:
    running = running or Launch.read([], {})
    about = About(__version__, settings.gateway.name, settings.app_env, running.recovery_dir)
    limits = LivenessLimits(
        timeout_s=settings.liveness_timeout_s,
        startup_grace_s=_STARTUP_GRACE_S + running.store_bytes / _LOAD_BYTES_PER_S,
        processes=running.processes,
        peers_wait_s=_longest_wait_s(settings),
    )
    return Status(about, limits)


def _dispatcher(settings: Settings, running: Launch | None, board: LaneBoard) -> Dispatcher:
    gateway = settings.gateway
    limits = Limits(
        concurrency=gateway.concurrency,
        rate=gateway.rate,
        park_after_s=gateway.park_after_s,
        parked=gateway.parked_max,
        # Its own epoch, and the next one.
        epoch_s=2 * settings.commit_interval_s,
        has_peers=running is not None and running.processes > 1,
    )
    return Dispatcher(registry.create(gateway), limits, board)


def _longest_wait_s(settings: Settings) -> float:
    """Return the longest that any process may wait in one epoch; then all others wait for it.

    That is, but for the restore of remembered ids, which has a bound of its own: a commit; or, at a
    start, the end of the previous run's transactions.
    """
    return 2 * settings.kafka.transaction_timeout_ms / 1000 + ASK_MOST_S
