"""Kafka, or the way to it, is away for a while."""

import time
from collections.abc import Callable

from tests.chaos.catalogue import Stage, fault
from tests.chaos.scene import Scene
from tests.support.hooks.tuning import WATCH_EVERY_S, tuned
from tests.support.kafka.broker import SESSION_S

EXPECTED = "carries on; or ends by a fault, and the restart carries on"
_ENVIRON = {"KAFKA_TRANSACTION_TIMEOUT": "10s"}
_LEADERLESS_S = SESSION_S + 1
"""A paused broker's partitions have lost their leader after this."""


def _outage(
    scene: Scene, take_away: Callable[[], None], seconds: float, bring_back: Callable[[], None]
) -> None:
    with scene.run(_ENVIRON) as flow:
        scene.at_work(flow)
        take_away()
        try:
            time.sleep(seconds)
        finally:
            bring_back()
        count = scene.load.count
        deadline = time.monotonic() + 120
        while not flow.ended and flow.decided() < count:
            assert time.monotonic() < deadline, f"neither carries on nor ends:\n{flow.log}"
            time.sleep(0.1)
        if flow.ended:
            codes = flow.wait_for_end()
            assert 0 not in codes, f"exit codes {codes}:\n{flow.log}"
            assert flow.fault_kinds() or flow.reasons("refused to start"), flow.log
        else:
            flow.stop()
    scene.carry_on(_ENVIRON)


@fault("broker killed, and started again", EXPECTED, Stage.REMOTE)
def _killed(scene: Scene) -> None:
    _outage(scene, scene.broker.kill, scene.rng.uniform(0, 3), scene.broker.restart)


@fault("broker stopped in order, and started again", EXPECTED, Stage.REMOTE)
def _stopped(scene: Scene) -> None:
    _outage(scene, scene.broker.stop, 0, scene.broker.restart)


@fault("broker paused (SIGSTOP)", EXPECTED, Stage.REMOTE)
def _paused(scene: Scene) -> None:
    seconds = scene.rng.choice([1, _LEADERLESS_S])
    _outage(scene, scene.broker.pause, seconds, scene.broker.heal)


@fault("network cut between flow and broker", EXPECTED, Stage.REMOTE)
def _cut(scene: Scene) -> None:
    link = scene.remote.link
    _outage(scene, link.cut, scene.rng.uniform(0, 6), link.mend)


@fault("network silent between flow and broker (packets lost)", EXPECTED, Stage.REMOTE)
def _silent(scene: Scene) -> None:
    link = scene.remote.link
    _outage(scene, link.stall, scene.rng.uniform(1, 15), link.mend)


@fault("network slow between flow and broker", "carries on, slowly", Stage.REMOTE)
def _slow(scene: Scene) -> None:
    link = scene.remote.link
    link.slow_down(scene.rng.uniform(0.02, 0.3), scene.rng.randint(50_000, 500_000))
    try:
        # To look at the cluster twice a second would be too often now.
        with scene.run(tuned({WATCH_EVERY_S: 5.0})) as flow:
            scene.at_work(flow)
            scene.wait_until_decided(flow)
            flow.stop()
    finally:
        link.mend()


@fault("one of three brokers killed, and started again", EXPECTED, Stage.TRIO)
def _one_killed(scene: Scene) -> None:
    member = scene.rng.choice(scene.trio.members)
    _outage(scene, member.kill, scene.rng.uniform(5, 15), member.heal)


@fault("one of three brokers paused (SIGSTOP)", EXPECTED, Stage.TRIO)
def _one_paused(scene: Scene) -> None:
    member = scene.rng.choice(scene.trio.members)
    _outage(scene, member.pause, scene.rng.uniform(5, 15), member.heal)


@fault("leader of the lane log killed, and started again", EXPECTED, Stage.TRIO)
def _leader_of_the_log_killed(scene: Scene) -> None:
    """Kill the broker that leads the partition which lane 0 claims its ids on."""
    topic = scene.topics.lane_log
    leader = scene.kafka.admin().list_topics(topic, timeout=30).topics[topic].partitions[0].leader
    [member] = [each for each in scene.trio.members if each.settings["node.id"] == str(leader)]
    _outage(scene, member.kill, scene.rng.uniform(5, 15), member.heal)


@fault("one of three brokers lost for good", "carries on with two", Stage.TRIO, every=1)
def _one_lost(scene: Scene) -> None:
    """Start and end runs while the broker is away."""
    member = scene.rng.choice(scene.trio.members)
    member.kill()
    try:
        scene.carry_on(_ENVIRON)
        scene.crash("after-commit", scene.rng.randint(1, 10), _ENVIRON)
        scene.carry_on(_ENVIRON)
    finally:
        member.heal()
