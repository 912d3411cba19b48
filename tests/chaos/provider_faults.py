"""The payment provider: away, slow, choking, killed, losing its answers after the charge."""

import time
from contextlib import AbstractContextManager, ExitStack

from dataflow.fake_provider.behaviour import Fault
from tests.chaos.catalogue import fault
from tests.chaos.provider import HTTP, POSTS_FOR_S, STRIPE, TIMEOUT_S
from tests.chaos.scene import Scene
from tests.chaos.shapes import SHAPES, Ensemble, Shape

_FAKE = (HTTP, STRIPE)
_GOES_ON = "holds, and goes on by itself"
_CARRIES_ON = "all processes end; the restart carries on"
_LATEST_S = 3.0
_SHORT_LIFE_S = POSTS_FOR_S + 2 * TIMEOUT_S
"""The life of a key that is to expire while the flow is down. Nothing suspends a process then."""
_FOR_EVERYBODY = (
    Fault.UNAVAILABLE,
    Fault.HTML_BEFORE,
    Fault.HANG_BEFORE,
    Fault.UNSAVED_500_BEFORE,
    Fault.RESET_AFTER,
    Fault.HANG_AFTER,
    Fault.HALF_A_BODY,
)
_LANES = (4, 6, 8)


def _pause(scene: Scene) -> None:
    time.sleep(scene.rng.uniform(0, _LATEST_S))


def _is_held(flow: Ensemble) -> None:
    flow.wait(flow.is_held, "held")


def _goes_on(scene: Scene, flow: Ensemble) -> None:
    """See the run decide everything, and stop in order."""
    scene.wait_until_decided(flow)
    flow.stop()


def _held_by(scene: Scene, trouble: AbstractContextManager[None]) -> None:
    """See the run hold while the provider has trouble, and go on by itself."""
    with scene.run() as flow:
        scene.at_work(flow)
        with trouble:
            _is_held(flow)
            _pause(scene)
        _goes_on(scene, flow)


def _kill(scene: Scene, flow: Ensemble) -> None:
    flow.kill_one(scene.rng.randrange(len(flow.flows)))
    scene.kills += 1


@fault("provider refuses connections", _GOES_ON, gateways=_FAKE)
def _refuses(scene: Scene) -> None:
    _held_by(scene, scene.provider.away())


@fault("provider gives no answer to anybody, before or after the charge", _GOES_ON, gateways=_FAKE)
def _fails(scene: Scene) -> None:
    _held_by(scene, scene.provider.failing(scene.rng.choice(_FOR_EVERYBODY)))


@fault("provider refuses the credentials", _GOES_ON, gateways=_FAKE)
def _wrong_credentials(scene: Scene) -> None:
    _held_by(scene, scene.provider.changed(secret="sk_test_another"))


@fault(
    "provider away for one process of several",
    "all of them hold, and stop in order; the restart carries on",
    every=2,
    gateways=_FAKE,
)
def _away_for_one(scene: Scene) -> None:
    """Have the last process find nothing at the provider's address."""
    nowhere = dict.fromkeys(("HTTP_GATEWAY_URL", "STRIPE_URL"), "http://127.0.0.1:1")
    with scene.run(shape=Shape(processes=2), of_last=nowhere) as flow:
        flow.wait(flow.are_all_held, "held, all of it")
        flow.stop()
    scene.carry_on()


@fault(
    "provider away around a stop and a start",
    "stops in order, starts, holds, and goes on by itself",
    gateways=_FAKE,
)
def _away_around_a_start(scene: Scene) -> None:
    with ExitStack() as outage:
        with scene.run() as flow:
            scene.at_work(flow)
            outage.enter_context(scene.provider.away())
            _is_held(flow)
            flow.stop()
        with scene.run() as flow:
            flow.wait_until_ready()
            _is_held(flow)
            outage.close()
            _goes_on(scene, flow)


@fault("provider slow, and slower than a call may take", "goes on by itself", gateways=_FAKE)
def _slow(scene: Scene) -> None:
    with scene.run() as flow:
        scene.at_work(flow)
        with scene.provider.changed(latency_s=scene.rng.uniform(0.2, 0.8) * TIMEOUT_S):
            _pause(scene)
        with scene.provider.changed(latency_s=scene.rng.uniform(1.2, 3) * TIMEOUT_S):
            _pause(scene)
        _goes_on(scene, flow)


@fault("provider answers 429 to what is too fast", "slows down, and goes on", gateways=_FAKE)
def _too_fast(scene: Scene) -> None:
    with scene.run() as flow:
        scene.at_work(flow)
        pause_s = scene.rng.choice([None, 1])
        with scene.provider.changed(rate_per_s=20.0, retry_after_s=pause_s):
            _pause(scene)
        with scene.provider.changed(max_in_flight=2):
            _pause(scene)
        _goes_on(scene, flow)


@fault("provider killed, and started again", "goes on by itself", gateways=_FAKE)
def _killed(scene: Scene) -> None:
    with scene.run() as flow:
        scene.at_work(flow)
        scene.provider.kill()
        _pause(scene)
        scene.provider.start()
        _goes_on(scene, flow)


@fault("SIGKILL while the provider is asked", _CARRIES_ON, gateways=_FAKE)
def _killed_at_the_provider(scene: Scene) -> None:
    """Kill it with charges under way; the provider goes on with them."""
    with scene.provider.changed(latency_s=0.5 * TIMEOUT_S), scene.run() as flow:
        flow.wait(lambda: any(each.charges() for each in flow.flows), "at the provider")
        _kill(scene, flow)


@fault("SIGKILL of the flow while the provider fails, or is killed", _CARRIES_ON, gateways=_FAKE)
def _both(scene: Scene) -> None:
    with scene.run() as flow:
        scene.at_work(flow)
        if scene.rng.random() < 1 / 2:
            with scene.provider.failing(scene.rng.choice(_FOR_EVERYBODY)):
                _pause(scene)
                _kill(scene, flow)
        else:
            scene.provider.kill()
            time.sleep(scene.rng.uniform(0, 0.5))
            _kill(scene, flow)
            scene.provider.start()


@fault(
    "answers lost after the charge, SIGKILL, and the keys expired before the restart",
    "looks up what it may have charged, and charges none of it again",
    gateways=_FAKE,
)
def _keys_expired(scene: Scene) -> None:
    with scene.provider.changed(key_life_s=_SHORT_LIFE_S):
        with scene.provider.failing(Fault.RESET_AFTER, 0.5), scene.run() as flow:
            scene.at_work(flow)
            _pause(scene)
            _kill(scene, flow)
        time.sleep(_SHORT_LIFE_S)
        scene.carry_on()


@fault(
    "another number of lanes and processes, while payments wait for the provider",
    "carries on; each has its outcome once there is an answer",
    gateways=_FAKE,
)
def _changed_while_parked(scene: Scene) -> None:
    scene.send_late(40, times=None)
    with scene.run() as flow:
        flow.wait(lambda: not scene.load.late, "sent to")
        scene.wait_until_decided(flow)
        flow.wait(flow.has_parked, "parking")
        flow.stop()
    scene.lanes = scene.rng.choice([each for each in _LANES if each != scene.lanes])
    scene.shape = scene.rng.choice([each for each in SHAPES.values() if each != scene.shape])
    scene.provider.cure()
    scene.decide_everything()
