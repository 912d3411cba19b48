"""A start: every check in its order; then the parts are there, and have taken ports and signals."""

import os
import sys
from functools import partial

import structlog

from dataflow import rotation
from dataflow.config import gateway_names, times
from dataflow.config.settings import Settings, environment
from dataflow.config.spelling import suspects
from dataflow.config.times import Keys
from dataflow.core import retry_schedule
from dataflow.dedupe.remembered import LEAST_LANE_BYTES
from dataflow.errors import SettingsError, StartRefusedError
from dataflow.gateways.port import Traits
from dataflow.kafka import preflight
from dataflow.kafka.retry import OutageRetry
from dataflow.observability import logs, tracing
from dataflow.observability.certificates import CertificateMetrics
from dataflow.observability.engine_metrics import EngineMetrics, prepare_engine_api
from dataflow.observability.gateway_metrics import GatewayMetrics
from dataflow.observability.id_metrics import IdMetrics
from dataflow.observability.redaction import register_secrets
from dataflow.observability.rotation_metrics import RotationMetrics
from dataflow.observability.store_metrics import StoreMetrics
from dataflow.process_context import Cluster, ProcessContext
from dataflow.recovery import store
from dataflow.rotation import Mounted, SecretWatch
from dataflow.runtime import Runtime
from dataflow.schema_registry import extra
from dataflow.service import command_line, fail_fast, loopback, malloc
from dataflow.service.command_line import Launch
from dataflow.web.server import Sidecar

_log = structlog.get_logger()
_UNUSED = {
    "KAFKA_BROKERS": "localhost:9092",
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "GATEWAY": "simulated",
}
"""Required settings, for a graph that is built to be drawn: neither is ever connected to."""


def start() -> Runtime:
    """Check everything that can be checked, then take ports and signals.

    Ends the process, with one line for each problem, when the flow must not start.
    """
    fail_fast.skip_native_cleanup()
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
    return fail_fast.refuse_to_start()


def _start(running: Launch) -> Runtime:
    mounted = Mounted(os.environ)
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
    tracing.start(os.environ)
    runtime = Runtime(settings, running)
    _refuse_misfit_times(settings, runtime.charging.traits)
    context = runtime.context
    context.lifecycle.handle_signals()
    # The descriptor is never closed: the lock is held until the process ends.
    store.prepare_recovery(running)
    if running.recovery_dir is not None:
        # The engine wants to write a file; here it leaves no trace elsewhere.
        os.environ.setdefault("BYTEWAX_DATAFLOW_API_CACHE_PATH", str(running.recovery_dir))
    api_port = prepare_engine_api(os.environ)
    context.metrics.registry.register(CertificateMetrics(settings))
    context.metrics.registry.register(GatewayMetrics(runtime.charging.figures))
    context.metrics.registry.register(IdMetrics(lambda: runtime.ids.figures))
    secrets = SecretWatch(mounted, settings, context.lifecycle, partial(rotation.check, os.environ))
    context.metrics.registry.register(RotationMetrics(secrets.refused))
    context.status.refused_secrets = secrets.refused
    if running.recovery_dir is not None:
        context.metrics.registry.register(StoreMetrics(running.recovery_dir))
    sidecar = Sidecar.start(
        context.status, context.metrics, settings.port, settings.metrics_port, settings.host
    )
    _log.info("sidecar listens", port=sidecar.port, metrics_port=sidecar.metrics_port)
    retry = OutageRetry(context.status, context.lifecycle)
    runtime.connect(_find_cluster(context, retry), retry)
    _refuse_idle_processes(runtime.context.cluster, settings, running)
    _find_formats(runtime)
    if api_port is not None:
        runtime.engine_metrics = EngineMetrics(api_port)
        context.metrics.registry.register(runtime.engine_metrics)
        loopback.confine_when_it_listens(api_port)
    runtime.watch(trims=running.process_id == 0)
    secrets.start()
    fail_fast.end_process_on_fault(lambda: store.full_disk(running))
    command_line.restart_when_asked(context.lifecycle)
    if running.processes > 1:
        context.status.await_peers()
    return runtime


def _find_formats(runtime: Runtime) -> None:
    """Look up the schemas of the outputs; for as long as the registry does not answer, wait."""
    context = runtime.context
    settings = context.settings
    if settings.schema_registry.url is None:
        return
    connect = extra.load("start").connect
    found = connect(settings, context.status, context.lifecycle, runtime.max_request_bytes)
    runtime.use_formats(found.encoders, found.unwrap, found.close)


def _find_cluster(context: ProcessContext, retry: OutageRetry) -> Cluster:
    """Look at the cluster; for as long as no broker answers, wait for one."""

    def sit_out(reason: str) -> None:
        context.status.broker_down(reason)
        retry.sit_out(reason)

    found = preflight.inspect(context.settings.kafka, sit_out)
    retry.answered()
    context.status.broker_up()
    return found


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


def _refuse_misfit_times(settings: Settings, traits: Traits) -> None:
    """Refuse times that do not fit each other; some are the provider's."""
    keys = Keys(traits.key_life_s, retry_schedule.KEY_MARGIN_S, traits.has_lookup)
    if problems := list(times.misfits(settings, keys)):
        raise SettingsError(problems)


def _refuse_idle_processes(found: Cluster, settings: Settings, running: Launch) -> None:
    """Refuse processes without an input partition: they would never see a request to stop."""
    partitions = len(found.partitions)
    if (running.processes - 1) * running.workers >= partitions:
        raise StartRefusedError(
            f"{running.processes} processes of {running.workers} workers are too many for the"
            f" {partitions} partitions of {settings.kafka.topic_requested}: a process would have"
            " no input. Start fewer processes or workers, or add partitions."
        )


def current() -> Runtime:
    """Start the parts if `python -m bytewax.run` is about to run the flow; else just build."""
    if command_line.launched_by_bytewax():
        return start()
    return Runtime(Settings.from_env(_UNUSED))
