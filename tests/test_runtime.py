"""The refusals of settings that are right one by one; the real flow shows that it is asked."""

from pathlib import Path

import pytest
from msgspec import structs

from dataflow.config.settings import Settings
from dataflow.core.hot_ids import HotIds
from dataflow.dedupe.remembered import LEAST_LANE_BYTES, RememberedIds
from dataflow.dedupe.tiered import Figures
from dataflow.errors import SettingsError, StartRefusedError
from dataflow.process_context import Cluster
from dataflow.runtime import Runtime, _longest_wait_s, _status
from dataflow.service.command_line import Launch
from dataflow.startup import _refuse_idle_processes, _refuse_misfits
from tests.support.flow_process import LIMIT_S, Flow, Topics
from tests.support.kafka import Cluster as KafkaCluster
from tests.support.required import REQUIRED


def settings(**environ: str) -> Settings:
    return Settings.from_env(REQUIRED | environ)


def launch(*, processes: int = 1, workers: int = 1, backup_s: int = 0) -> Launch:
    addresses = ";".join(f"127.0.0.1:{port}" for port in range(9000, 9000 + processes))
    argv = ["-w", str(workers), "-s", "0", "-b", str(backup_s)]
    return Launch.read([*argv, "-i", "0", "-a", addresses] if processes > 1 else argv, {})


def misfits(running: Launch, **environ: str) -> list[str]:
    try:
        _refuse_misfits(settings(**environ), running)
    except SettingsError as error:
        return error.problems
    return []


@pytest.mark.parametrize(("processes", "workers"), [(1, 8), (8, 1), (2, 4)])
def test_there_are_as_many_lanes_as_workers(processes: int, workers: int) -> None:
    running = launch(processes=processes, workers=workers)
    assert misfits(running, LANES="8") == []
    (problem,) = misfits(running, LANES="7")
    assert problem.startswith("LANES: 7 lanes are not enough for 8 workers; example: LANES=")


def test_the_example_has_lanes_enough() -> None:
    (problem,) = misfits(launch(workers=40), LANES="1")
    assert problem.endswith("example: LANES=40")


def test_an_interval_is_over_long_before_a_transaction_is() -> None:
    """A process that waits for the next instant may keep the others' transactions open."""
    slowest = settings(COMMIT_INTERVAL="1s", KAFKA_TRANSACTION_TIMEOUT="10s")
    assert slowest.commit_interval_s * 1000 < slowest.kafka.transaction_timeout_ms / 3
    for environ in ({"COMMIT_INTERVAL": "1001ms"}, {"KAFKA_TRANSACTION_TIMEOUT": "9999ms"}):
        with pytest.raises(SettingsError):
            settings(**environ)


def test_there_is_memory_for_each_lane(tmp_path: Path) -> None:
    """Else each commit of each lane would write a file."""
    running = structs.replace(launch(), recovery_dir=tmp_path)
    assert misfits(running, DEDUPE_MEMORY="16MB", LANES="42") == []
    (problem,) = misfits(running, DEDUPE_MEMORY="16MB", LANES="43")
    assert problem.startswith("DEDUPE_MEMORY: 16MB is too little for 43 lanes in a process")
    assert "example: DEDUPE_MEMORY=17MB" in problem
    assert misfits(running, DEDUPE_MEMORY="17MB", LANES="43") == []
    assert misfits(structs.replace(running, processes=2), DEDUPE_MEMORY="16MB", LANES="84") == []
    assert misfits(launch(), DEDUPE_MEMORY="16MB", LANES="256") == [], "it writes no files"
    assert misfits(running, LANES="256") == []


def test_the_smallest_tables_fit_into_the_least_memory() -> None:
    assert HotIds().nbytes < LEAST_LANE_BYTES / 4


def test_a_process_lives_while_it_checks_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, where nothing can be written: gigabytes."""
    runtime = Runtime(settings())
    reasons: list[str] = []

    def slow(_lane: int) -> None:
        reasons.extend(runtime.context.status.health()[1]["waiting_for"])

    monkeypatch.setattr(runtime.ids, "open", slow)
    runtime.open_ids(0)
    assert reasons == ["files of remembered ids"]


def test_files_that_cannot_be_written_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(settings())
    assert not runtime.context.status.health()[1]["recovery"]["id_files_failing"]
    failing = Figures.of([])._replace(failing_since=1.0)
    monkeypatch.setattr(RememberedIds, "figures", failing)
    assert runtime.context.status.health()[1]["recovery"]["id_files_failing"]


def test_old_snapshots_are_not_kept() -> None:
    """The engine divides by the epochs' length; it never deletes one at 0, and the disk fills."""
    assert misfits(launch(backup_s=0)) == []
    (problem,) = misfits(launch(backup_s=60))
    assert problem.startswith("BYTEWAX_RECOVERY_BACKUP_INTERVAL: expected 0, got 60: ")
    assert problem.endswith("example: BYTEWAX_RECOVERY_BACKUP_INTERVAL=0")


def test_zero_workers_are_refused() -> None:
    (problem,) = misfits(launch(workers=0))
    assert problem.startswith("BYTEWAX_WORKERS_PER_PROCESS: at least 1 worker is needed, got 0")


def test_all_misfits_come_at_once() -> None:
    found = misfits(launch(workers=2, backup_s=60), LANES="1")
    assert [problem.partition(":")[0] for problem in found] == [
        "LANES",
        "BYTEWAX_RECOVERY_BACKUP_INTERVAL",
    ]


@pytest.mark.parametrize(
    ("processes", "workers", "enough"), [(1, 9, 1), (3, 1, 3), (2, 2, 3), (3, 4, 9)]
)
def test_every_process_has_a_partition_to_read(processes: int, workers: int, enough: int) -> None:
    running = launch(processes=processes, workers=workers)
    _refuse_idle_processes(Cluster("c", list(range(enough))), settings(), running)
    if processes > 1:
        with pytest.raises(StartRefusedError) as caught:
            _refuse_idle_processes(Cluster("c", list(range(enough - 1))), settings(), running)
        assert f"{processes} processes of {workers} workers are too many" in str(caught.value)
        assert f"the {enough - 1} partitions of payments.payment-requested" in str(caught.value)


def test_a_process_may_wait_for_others_as_long_as_one_may_wait_by_the_settings() -> None:
    """At a start, for the end of the previous run's transactions. Nothing waits for the gateway."""
    assert _longest_wait_s(settings(KAFKA_TRANSACTION_TIMEOUT="60s")) == 180
    assert _longest_wait_s(settings(KAFKA_TRANSACTION_TIMEOUT="10s")) == 80


def test_a_start_with_times_that_do_not_fit_is_refused(tmp_path: Path) -> None:
    """The settings with each other, and with the life of the gateway's keys; no Kafka is asked."""
    environ = {
        "GATEWAY": "tests.support.book_gateway:ForgetfulGateway",
        "DEDUPE_WINDOW": "23h",
        "LIVENESS_TIMEOUT": "1s",
        "STOP_GRACE_PERIOD": "30s",
    }
    nowhere = KafkaCluster("127.0.0.1:1")
    with Flow(nowhere, Topics.unused(), tmp_path, environ=environ, commit_interval="1s") as flow:
        assert not flow.wait_or_end(lambda: bool(flow.health()), LIMIT_S, "refused"), "it goes on"
        assert flow.wait_for_exit() == 1
    found = [each["problem"] for each in flow.entries if each["event"] == "wrong setting"]
    assert [problem.partition(":")[0] for problem in found] == [
        "LIVENESS_TIMEOUT",
        "STOP_GRACE_PERIOD",
        "DEDUPE_WINDOW",
    ]


def test_the_first_epoch_may_take_longer_with_a_large_store(tmp_path: Path) -> None:
    def grace_s(running: Launch) -> float:
        return _status(settings(), running)._liveness._grace_s

    running = structs.replace(launch(), recovery_dir=tmp_path)
    assert grace_s(running) == 120
    with (tmp_path / "part-0.sqlite3").open("wb") as store:
        store.truncate(5_000_000_000)
    assert grace_s(running) == 620
    assert grace_s(structs.replace(running, process_id=1)) == 120, "the store is process 0's"
    assert grace_s(structs.replace(running, recovery_dir=None)) == 120
