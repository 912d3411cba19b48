"""SIGKILL: at every named point, and at any moment."""

import time

from tests.chaos.catalogue import FAULTS, Fault, Strike, fault
from tests.chaos.provider import SIMULATED
from tests.chaos.scene import FILES, Scene
from tests.support.hooks.tuning import COMMITS_AT_ONCE, PARKED_UNIT_S, tuned

EXPECTED = "all processes end; the restart carries on"
_LATEST_S = 3.0

# ---- the first run ever ----


def _first_open(scene: Scene) -> None:
    assert scene.runs == 0
    scene.crash("opening", scene.rng.randint(1, 2))


def _first_commit(scene: Scene) -> None:
    """Crash in the first epoch with records; one lane after the other, to be in their midst."""
    one_by_one = tuned({COMMITS_AT_ONCE: 1})
    scene.crash(scene.rng.choice(["offsets-sent", "after-commit"]), 1, one_by_one)


# ---- at a named point ----

POINTS: dict[str, tuple[str, int]] = {
    "opening": ("while lanes open, some are fenced already", 2),
    "claimed-not-charged": ("claims are committed, nothing is charged", 30),
    "charged-not-committed": ("payments are charged, no outcome is committed", 30),
    "parked-not-committed": ("payments are parked in an open transaction", 2),
    "answered-not-committed": ("what was parked is answered, nothing is written", 2),
    "tombstone-not-committed": ("its outcome is written in an open transaction", 2),
    "decided": ("the gateway has decided, nothing is written", 30),
    "deciding": ("in the middle of a step", 60),
    "mid-batch": ("with records of a transaction on their way", 60),
    "before-commit": ("all written, before the flush", 60),
    "logged": ("the lane's log is written, nothing is flushed", 60),
    "flushed": ("after the flush, before the offsets", 60),
    "claims-flushed": ("claims flushed, before the offsets", 20),
    "claims-committed": ("one lane has committed its claims, others not", 20),
    "offsets-sent": ("after the offsets, before the commit", 60),
    "committing": ("during the commit", 30),
    "after-commit": ("one lane committed, others not", 60),
    "all-committed": ("all lanes committed, no snapshot stored", 20),
    "durable": ("snapshots stored, the group not told", 20),
    "building": ("before a partition looks where to start", 1),
    "asking": ("before the lanes' offsets are read", 1),
    "restoring": ("before the log is read back", 1),
    "restored": ("some lanes have their history, others not", 2),
    "replay": ("committed records are on their way again", 1),
    "file-written": ("a file of ids is durable, and not in its manifest", 20),
    "file-listed": ("it is, and what it replaces is still there", 20),
    "draining": ("asked to stop, the last epoch open", 1),
}
"""The meaning of each, and the latest pass of it at which to kill: a rare one comes late enough."""


IN_COMMIT = frozenset(
    {
        "logged",
        "parked-not-committed",
        "flushed",
        "tombstone-not-committed",
        "claims-flushed",
        "offsets-sent",
        "committing",
        "claims-committed",
        "after-commit",
    }
)
"""Those inside the commit of an epoch: from a lane's first step until all lanes have committed."""


def _at(point: str) -> Strike:
    latest = POINTS[point][1]

    def strike(scene: Scene) -> None:
        scene.crash(point, scene.rng.randint(1, latest))

    return strike


def _in_restored(scene: Scene) -> None:
    """Kill while ids are restored: a process of a cluster may have a single lane."""
    scene.crash("restored", scene.rng.randint(1, 2) if scene.shape.processes == 1 else 1)


def _in_replay(scene: Scene) -> None:
    """Crash twice: Kafka must be ahead of the snapshots."""
    scene.crash("all-committed", scene.rng.randint(1, 20))
    scene.crash("replay", 1)


def _in_files(point: str) -> Strike:
    def strike(scene: Scene) -> None:
        scene.crash(point, scene.rng.randint(1, POINTS[point][1]), tuned(FILES))

    return strike


def _in_parking(point: str) -> Strike:
    def strike(scene: Scene) -> None:
        scene.send_late(20)
        soon = {"GATEWAY_PARK_AFTER": "1s", **tuned({PARKED_UNIT_S: 0.02})}
        scene.crash(point, scene.rng.randint(1, POINTS[point][1]), soon)

    return strike


def _while_draining(scene: Scene) -> None:
    with scene.run({"CRASH_AT": "draining:1"}) as flow:
        scene.at_work(flow)
        scene.rng.choice(flow.flows).process.terminate()
        scene.killed_at("draining", flow)


_SPECIAL = {
    "parked-not-committed": _in_parking("parked-not-committed"),
    "answered-not-committed": _in_parking("answered-not-committed"),
    "tombstone-not-committed": _in_parking("tombstone-not-committed"),
    "file-written": _in_files("file-written"),
    "file-listed": _in_files("file-listed"),
    "restored": _in_restored,
    "replay": _in_replay,
    "draining": _while_draining,
}

FAULTS += [
    Fault("SIGKILL in the first run: a lane open", EXPECTED, _first_open, point="first open"),
    Fault(
        "SIGKILL in the first run: the first commit", EXPECTED, _first_commit, point="first commit"
    ),
    *(
        Fault(
            f"SIGKILL at {point}: {what}", EXPECTED, _SPECIAL.get(point) or _at(point), point=point
        )
        for point, (what, _) in POINTS.items()
    ),
]

# ---- at any moment ----


@fault("SIGKILL at any moment", EXPECTED)
def _at_random(scene: Scene) -> None:
    with scene.run() as flow:
        time.sleep(scene.rng.uniform(0.2, _LATEST_S))
        flow.kill_one(scene.rng.randrange(len(flow.flows)))
        scene.kills += 1


@fault("SIGKILL while the gateway is asked", EXPECTED, gateways=(SIMULATED,))
def _at_the_gateway(scene: Scene) -> None:
    slow = {"SIMULATED_LATENCY": "300ms", "GATEWAY_CONCURRENCY": "20"}
    with scene.run(slow) as flow:
        flow.wait(
            lambda: any(each.charges() for each in flow.flows),
            "at the gateway",
        )
        flow.kill_one(scene.rng.randrange(len(flow.flows)))
        scene.kills += 1
