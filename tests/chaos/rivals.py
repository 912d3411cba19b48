"""Two executions of one flow: at once, or one of them after a long sleep."""

import signal
import time

from tests.chaos.catalogue import fault
from tests.chaos.scene import Scene
from tests.chaos.shapes import Ensemble, is_stopped
from tests.support.flow_process import has_open_transaction

_TIMEOUT_S = 10.0
_ASLEEP_AT = ["before-commit", "flushed", "offsets-sent"]


def _asleep(scene: Scene, environ: dict[str, str]) -> Ensemble:
    """Return a run that is suspended with an open transaction."""
    point = scene.rng.choice(_ASLEEP_AT)
    passes = scene.rng.randint(1, 20)
    flow = scene.run({"CRASH_AT": f"{point}:{passes}", "CRASH_BY": "SIGSTOP", **environ})
    try:
        flow.wait(lambda: any(is_stopped(each.process.pid) for each in flow.flows), "suspended")
    except BaseException:
        flow.__exit__()
        raise
    # As when a machine is suspended; and the others would wait with all the processor they can get.
    for each in flow.flows:
        each.process.send_signal(signal.SIGSTOP)
    return flow


def _wake(flow: Ensemble, kinds: set[str]) -> None:
    """Let it go on: it must end by one of these faults."""
    for each in flow.flows:
        each.process.send_signal(signal.SIGCONT)
    codes = flow.wait_for_end()
    assert 1 in codes, f"exit codes {codes}:\n{flow.log}"
    assert 0 not in codes, f"exit codes {codes}:\n{flow.log}"
    assert flow.fault_kinds(), f"no fault was logged:\n{flow.log}"
    assert flow.fault_kinds() <= kinds, f"{flow.fault_kinds()}:\n{flow.log}"


@fault(
    "SIGSTOP past the transaction timeout, then SIGCONT",
    "Kafka ends the transaction; the zombie ends by FencedError or CommitError;"
    " the restart carries on",
    every=2,
)
def _overslept(scene: Scene) -> None:
    with _asleep(scene, {"KAFKA_TRANSACTION_TIMEOUT": f"{_TIMEOUT_S:g}s"}) as sleeper:
        # What its client has not sent yet times out there, which Kafka does not know of.
        over_s = time.monotonic() + _TIMEOUT_S + 1

        def has_overslept() -> bool:
            return time.monotonic() > over_s and not any(
                has_open_transaction(scene.kafka, topic) for topic in scene.topics.written
            )

        sleeper.wait(has_overslept, "timed out")
        _wake(sleeper, {"FencedError", "CommitError"})


@fault(
    "SIGSTOP in a transaction, another run takes over, then SIGCONT",
    "the zombie ends by FencedError; the other run carries on",
    every=2,
)
def _zombie(scene: Scene) -> None:
    with _asleep(scene, {}) as zombie:
        elsewhere = scene.copy_live_store("successor")
        with scene.run(directory=elsewhere) as successor:
            scene.at_work(successor)
            _wake(zombie, {"FencedError"})
            scene.wait_until_decided(successor)
            successor.stop()
    scene.use_store(elsewhere)


@fault(
    "two executions at once, each with a recovery directory",
    "the older one ends by FencedError; the newer one carries on",
    every=2,
)
def _two_at_once(scene: Scene) -> None:
    with scene.run() as older:
        scene.at_work(older)
        elsewhere = scene.copy_live_store("newer")
        with scene.run(directory=elsewhere) as newer:
            newer.wait_until_ready()
            codes = older.wait_for_end()
            assert 1 in codes, f"exit codes {codes}:\n{older.log}"
            assert older.fault_kinds() == {"FencedError"}, older.log
            scene.at_work(newer)
            newer.stop()
    scene.use_store(elsewhere)


@fault(
    "two executions at once on one recovery directory",
    "the second one refuses; the first one carries on",
    every=3,
)
def _two_on_one_directory(scene: Scene) -> None:
    with scene.run() as first:
        scene.at_work(first)
        with scene.run() as second:
            assert "is in use by another execution of this flow" in second.refusal()
        scene.at_work(first)
        first.stop()
