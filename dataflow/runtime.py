"""Everything one process has one of: settings, status, metrics, gateway, sidecar; and its start."""

import os
import sys

import structlog
from bytewax.inputs import Source
from bytewax.outputs import Sink

from dataflow import __version__
from dataflow.config import gateway_names
from dataflow.config.settings import Settings, environment
from dataflow.config.spelling import suspects
from dataflow.core.epochs import Epochs
from dataflow.core.items import Input, Outgoing
from dataflow.core.watermarks import ReadUpTo
from dataflow.dedupe.remembered import LEAST_LANE_BYTES, RememberedIds
from dataflow.dedupe.tiered import TieredIndex
from dataflow.errors import SettingsError, StartRefusedError
from dataflow.gateways import registry
from dataflow.gateways.runner import GatewayRunner
from dataflow.kafka import preflight, watcher
from dataflow.kafka.lane_log import LaneLog
from dataflow.kafka.lane_log_trimmer import Trimmer
from dataflow.kafka.lane_offsets import LaneOffsets
from dataflow.kafka.partition_offsets import Ends
from dataflow.kafka.retry import Patience
from dataflow.kafka.sink import KafkaSink
from dataflow.kafka.source import ASK_MOST_S, KafkaSource
from dataflow.observability import logs
from dataflow.observability.certificates import CertificateMetrics
from dataflow.observability.engine_metrics import EngineMetrics, prepare_engine_api
from dataflow.observability.id_metrics import IdMetrics
from dataflow.observability.metrics import Metrics
from dataflow.observability.redaction import register_secrets
from dataflow.observability.status import Status
from dataflow.observability.store_metrics import StoreMetrics
from dataflow.recovery import store
from dataflow.service import command_line, fail_fast, loopback, malloc
from dataflow.service.command_line import Launch
from dataflow.service.shutdown import Lifecycle
from dataflow.steps.dedupe import Log, NoLog
from dataflow.web.server import Sidecar
from schemas.events import EVENT_OVERHEAD_BYTES
from schemas.replies import Approved, Declined
from schemas.requests import PaymentRequest

_log = structlog.get_logger()

_IDS = "remembered-ids"
"""The directory in the recovery directory with the files of remembered ids."""
_UNUSED = {
    "KAFKA_BROKERS": "localhost:9092",
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "GATEWAY": "simulated",
}
"""What is required, for a graph that is built to be drawn: neither is ever connected to."""
_GRACE_S = 5.0
"""How long after its deadline a wait may still end."""
_STARTUP_GRACE_S = 120.0
"""Until the first epoch has closed, with an empty recovery store."""
_LOAD_BYTES_PER_S = 10e6
"""How fast the engine loads the store, at the least."""


class Runtime:
    """The parts of one process, put together but not started.

    Attributes:
        settings: The configuration.
        max_request_bytes: The largest request whose outcome fits the output topics.
        gateway_batch: How many requests the gateway gets at once.
        cluster: What was found of it at the start.
        log: What the lanes have claimed; nothing before the process is started.
        ids: What the lanes of this process remember.
    """

    def __init__(self, settings: Settings, running: Launch | None = None) -> None:
        kafka = settings.kafka
        self.settings = settings
        self.max_request_bytes = kafka.message_max_bytes - EVENT_OVERHEAD_BYTES
        # Each of them then has the whole deadline for itself.
        self.gateway_batch = settings.gateway.concurrency
        self.status = _status(settings, running)
        self.metrics = Metrics(
            self.status,
            input_topic=kafka.topic_requested,
            output_topics=kafka.topics_published,
            log_topic=kafka.topic_lane_log,
        )
        self.lifecycle = Lifecycle(self.status)
        self.gateway = GatewayRunner(
            lambda: registry.create(settings.gateway),
            settings.gateway.deadline_s,
            on_wait=_log_wait,
        )
        shared = running is not None and running.processes * running.workers > 1
        self._epochs = Epochs(settings.commit_interval_s, shared)
        self.cluster = preflight.Cluster("", [])
        self.log: Log = NoLog()
        self.ids = RememberedIds(settings.dedupe_window_ms, settings.dedupe_memory_bytes)
        self.status.id_files_fail = lambda: self.ids.figures.are_failing
        self._ids_dir = running.recovery_dir / _IDS if running and running.recovery_dir else None
        self._log_ends = Ends(kafka.topic_lane_log)
        self._offsets = LaneOffsets(kafka, settings.lanes, self.cluster)
        self._read_up_to: dict[int, ReadUpTo] = {}
        self.engine_metrics: EngineMetrics | None = None

    @classmethod
    def current(cls) -> "Runtime":
        """Start the parts if `python -m bytewax.run` is about to run the flow; else just build."""
        if command_line.launched_by_bytewax():
            return start()
        return cls(Settings.from_env(_UNUSED))

    def connect(self, found: preflight.Cluster, patience: Patience) -> None:
        """Take in what was found of the cluster."""
        settings = self.settings
        self.cluster = found
        self._offsets = LaneOffsets(settings.kafka, settings.lanes, found, patience)
        self._read_up_to = {each: ReadUpTo(settings.dedupe_window_ms) for each in found.partitions}
        self.ids = RememberedIds(
            settings.dedupe_window_ms,
            settings.dedupe_memory_bytes,
            self._ids_dir,
            found.cluster_id,
            found.log_id,
            settings.lanes,
        )
        self.log = LaneLog(
            settings.kafka,
            settings.lanes,
            found,
            self._offsets,
            self._log_ends,
            self.status,
            patience,
            patience.sit_out,
        )

    def watch(self, *, trims: bool) -> None:
        """Start to look at the cluster; one process of all also trims the lanes' log."""
        kafka = self.settings.kafka
        watcher.Watcher(
            kafka, self._read_up_to, self._log_ends, self.status, self.lifecycle
        ).start()
        if trims:
            window_s = self.settings.dedupe_window_ms / 1000
            Trimmer(kafka, self.settings.lanes, self.cluster, window_s).start()

    def source(self) -> Source[Input]:
        """The request topic."""
        return KafkaSource(
            self.settings,
            self.cluster,
            self.status,
            self.lifecycle,
            self._offsets,
            self._read_up_to,
            self._epochs,
            self._close_engine_metrics,
        )

    def sink(self) -> Sink[tuple[str, Outgoing]]:
        """The three output topics, and the lanes' log."""
        settings = self.settings
        return KafkaSink(
            settings.kafka,
            settings.lanes,
            self.status,
            self.metrics,
            self.lifecycle,
            self.cluster,
            self._close,
        )

    def open_ids(self, lane: int) -> TieredIndex:
        """Open the index of a lane; if its files cannot be written, all of them are checked."""
        with self.status.waiting("files of remembered ids"):
            return self.ids.open(lane)

    def charge(self, requests: list[PaymentRequest]) -> list[Approved | Declined]:
        """Have the gateway settle a batch; blocks until every request has its final reply."""
        with self.status.waiting("payment gateway", self.settings.gateway.deadline_s + _GRACE_S):
            return self.gateway.settle(requests)

    def _close_engine_metrics(self) -> None:
        # The engine cannot take down its web server while it answers a scrape.
        if self.engine_metrics:
            self.engine_metrics.close()

    def _close(self) -> None:
        """End with the sink: only then no worker has anything left to charge."""
        self._close_engine_metrics()
        self.gateway.close()
        self.ids.close()


def start() -> Runtime:
    """Check everything that can be checked, then take ports and signals.

    Ends the process, with one line for each problem, when the flow must not start.
    """
    logs.configure("info", environment=environment(os.environ))
    malloc.tune()
    try:
        running = Launch.read(sys.argv[1:], os.environ)
        command_line.make_every_batch_an_epoch(running)
        return _start(running)
    except SettingsError as error:
        for problem in error.problems:
            _log.critical("wrong setting", problem=problem)
    except StartRefusedError as error:
        _log.critical("refused to start", reason=str(error))
    sys.exit(1)


def _start(running: Launch) -> Runtime:
    settings = Settings.from_env(os.environ)
    logs.configure(settings.log_level, environment=settings.app_env)
    register_secrets([secret.reveal() for secret in settings.secrets()])
    _log.info("settings", **settings.masked())
    for suspect in suspects(os.environ):
        _log.warning("variable ignored", problem=suspect.problem)
    if settings.gateway.name == gateway_names.SIMULATED:
        _log.warning(
            "simulated gateway in use: payments are approved, nobody is charged; set GATEWAY"
        )
    _refuse_misfits(settings, running)
    runtime = Runtime(settings, running)
    runtime.lifecycle.handle_signals()
    # The descriptor is never closed: the lock is held until the process ends.
    store.prepare_recovery(running)
    if running.recovery_dir is not None:
        # The engine wants to write a file; here it leaves no trace elsewhere.
        os.environ.setdefault("BYTEWAX_DATAFLOW_API_CACHE_PATH", str(running.recovery_dir))
    api_port = prepare_engine_api(os.environ)
    runtime.metrics.registry.register(CertificateMetrics(settings.kafka))
    runtime.metrics.registry.register(IdMetrics(lambda: runtime.ids.figures))
    if running.recovery_dir is not None:
        runtime.metrics.registry.register(StoreMetrics(running.recovery_dir))
    sidecar = Sidecar.start(
        runtime.status, runtime.metrics, settings.port, settings.metrics_port, settings.host
    )
    _log.info("sidecar listens", port=sidecar.port, metrics_port=sidecar.metrics_port)
    patience = Patience(runtime.status, runtime.lifecycle)
    runtime.connect(_find_cluster(runtime, patience), patience)
    _refuse_idle_processes(runtime.cluster, settings, running)
    if api_port is not None:
        runtime.engine_metrics = EngineMetrics(api_port)
        runtime.metrics.registry.register(runtime.engine_metrics)
        loopback.confine_when_it_listens(api_port)
    runtime.watch(trims=running.process_id == 0)
    fail_fast.end_process_on_fault(lambda: store.full_disk(running))
    command_line.restart_when_asked(runtime.lifecycle)
    if running.processes > 1:
        runtime.status.await_peers()
    return runtime


def _status(settings: Settings, running: Launch | None) -> Status:
    running = running or Launch.read([], {})
    return Status(
        version=__version__,
        liveness_timeout_s=settings.liveness_timeout_s,
        startup_grace_s=_STARTUP_GRACE_S + running.store_bytes / _LOAD_BYTES_PER_S,
        recovery_dir=running.recovery_dir,
        gateway=settings.gateway.name,
        environment=settings.app_env,
        processes=running.processes,
        peers_wait_s=_longest_wait_s(settings),
    )


def _find_cluster(runtime: Runtime, patience: Patience) -> preflight.Cluster:
    """Look at the cluster; for as long as no broker answers, wait for one."""

    def sit_out(reason: str) -> None:
        runtime.status.broker_down(reason)
        patience.sit_out(reason)

    found = preflight.inspect(runtime.settings.kafka, sit_out)
    patience.answered()
    runtime.status.broker_up()
    return found


def _longest_wait_s(settings: Settings) -> float:
    """The longest that any process may wait in one epoch; then all others wait for it.

    That is, but for the restore of remembered ids, which has a bound of its own: a batch of charges
    and its commit; or, at a start, the end of the previous run's transactions.
    """
    transaction_s = settings.kafka.transaction_timeout_ms / 1000
    return max(
        settings.gateway.deadline_s + transaction_s + _GRACE_S,
        2 * transaction_s + ASK_MOST_S,
    )


def _refuse_misfits(settings: Settings, running: Launch) -> None:
    """Refuse what cannot work together."""
    problems = []
    workers = running.processes * running.workers
    if running.workers < 1:
        problems.append(
            f"BYTEWAX_WORKERS_PER_PROCESS: at least 1 worker is needed, got {running.workers};"
            " example: BYTEWAX_WORKERS_PER_PROCESS=1"
        )
    if settings.lanes < workers:
        problems.append(
            f"LANES: {settings.lanes} lanes are not enough for {workers} workers;"
            f" example: LANES={max(16, workers)}"
        )
    lanes = -(-settings.lanes // running.processes)
    least_mb = -(-lanes * LEAST_LANE_BYTES // 1024**2)
    if running.recovery_dir is not None and settings.dedupe_memory_bytes < least_mb * 1024**2:
        problems.append(
            f"DEDUPE_MEMORY: {settings.dedupe_memory_bytes // 1024**2}MB is too little for"
            f" {lanes} lanes in a process: each would write a file every few payments;"
            f" example: DEDUPE_MEMORY={least_mb}MB, or fewer LANES"
        )
    if running.backup_interval_s > 0:
        problems.append(
            f"BYTEWAX_RECOVERY_BACKUP_INTERVAL: expected 0, got {running.backup_interval_s}: every"
            " batch is an epoch here, so Bytewax would never delete a snapshot, until the disk is"
            " full; example: BYTEWAX_RECOVERY_BACKUP_INTERVAL=0"
        )
    if problems:
        raise SettingsError(problems)


def _refuse_idle_processes(found: preflight.Cluster, settings: Settings, running: Launch) -> None:
    """Refuse processes without an input partition: they would never see a request to stop."""
    partitions = len(found.partitions)
    if (running.processes - 1) * running.workers >= partitions:
        raise StartRefusedError(
            f"{running.processes} processes of {running.workers} workers are too many for the"
            f" {partitions} partitions of {settings.kafka.topic_requested}: a process would have"
            " no input. Start fewer processes or workers, or add partitions."
        )


def _log_wait(requests: int, pause_s: float, reason: str) -> None:
    _log.warning("gateway unavailable", requests=requests, pause_s=round(pause_s, 3), reason=reason)
