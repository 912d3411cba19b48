"""Stops in order, and starts in another shape."""

from tests.chaos.catalogue import NotStruckError, fault
from tests.chaos.scene import Scene
from tests.chaos.shapes import SHAPES
from tests.support.hooks.tuning import COMMITS_AT_ONCE, tuned

_LANES = (4, 6, 8)
_TRIES = 5


@fault("SIGTERM under load", "exit 0; the restart carries on")
def _sigterm(scene: Scene) -> None:
    with scene.run() as flow:
        scene.at_work(flow)
        flow.stop()


@fault("another number of processes or workers", "carries on", every=2)
def _reshaped(scene: Scene) -> None:
    scene.carry_on()
    scene.shape = scene.rng.choice([each for each in SHAPES.values() if each != scene.shape])
    scene.carry_on()


@fault("another number of lanes", "carries on", every=2)
def _other_lanes(scene: Scene) -> None:
    scene.carry_on()
    scene.lanes = scene.rng.choice([each for each in _LANES if each != scene.lanes])
    scene.carry_on()


@fault(
    "another number of lanes, with work in flight",
    "refuses, naming the old number; with that and a clean stop, the new one carries on",
    every=2,
)
def _other_lanes_too_early(scene: Scene) -> None:
    for _ in range(_TRIES):
        if _is_refused_after_a_crash(scene):
            return
    raise NotStruckError


def _is_refused_after_a_crash(scene: Scene) -> bool:
    """Return whether the new number was refused; it must be if a lane was ahead.

    The lane that has committed alone is not if that were only claims, as in the first epoch, or
    answers to what was parked. What a start then does is checked as everything is, at the end of
    the scene.
    """
    commits = scene.rng.randint(1, 2 * scene.lanes)
    scene.crash("after-commit", commits, tuned({COMMITS_AT_ONCE: 1}))
    before = scene.lanes
    after = scene.rng.choice([each for each in _LANES if each != before])
    with scene.run({"LANES": str(after)}) as flow:
        flow.wait_until_ready_or_ended()
        is_refused = flow.ended
        if is_refused:
            refusal = flow.refusal()
            assert f"LANES was changed from {before} to {after} while work was in flight" in refusal
            assert f"Start once with LANES={before}" in refusal
        else:
            flow.stop()
    if is_refused:
        scene.carry_on()
    scene.lanes = after
    scene.carry_on()
    return is_refused
