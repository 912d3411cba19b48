"""The lane log: grown, or of settings that would forget; files of ids that are not of it."""

import shutil

from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
)

from tests.chaos.catalogue import fault
from tests.chaos.inputs import follow_advice
from tests.chaos.scene import FILES, Scene
from tests.support.flow_process import Flow, Topics
from tests.support.hooks.tuning import tuned

_MOST_PARTITIONS = 6
_FORGETFUL = (
    ("cleanup.policy", "compact"),
    ("cleanup.policy", "compact,delete"),
    ("retention.ms", "604800000"),
    ("retention.bytes", "1000000000"),
)
_IDS = "remembered-ids"


@fault(
    "partitions added to the lane log and the pending topic, and SIGKILL",
    "carries on, and forgets nothing",
    every=2,
)
def _grown(scene: Scene) -> None:
    admin = scene.kafka.admin()
    topics = [scene.topics.lane_log, scene.topics.pending]
    wanted = []
    for topic in topics:
        count = len(admin.list_topics(topic, timeout=30).topics[topic].partitions)
        wanted.append(NewPartitions(topic, min(count + 1, _MOST_PARTITIONS)))
        if count == _MOST_PARTITIONS:
            scene.carry_on()
            return
    with scene.run() as flow:
        scene.at_work(flow)
        for done in admin.create_partitions(wanted).values():
            done.result(30)
        scene.at_work(flow)
        flow.kill_one(scene.rng.randrange(len(flow.flows)))
        scene.kills += 1
    # It writes to the new partitions now, and the one after it reads them back.
    scene.crash("after-commit", scene.rng.randint(1, 20))
    scene.carry_on()


@fault(
    "lane log compacted, or with a retention",
    "refuses, with the command that mends it; after it, carries on, and forgets nothing",
    every=2,
)
def _forgetful(scene: Scene) -> None:
    scene.carry_on()
    name, value = scene.rng.choice(_FORGETFUL)
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(
        ConfigResource.Type.TOPIC, scene.topics.lane_log, incremental_configs=[entry]
    )
    admin = scene.kafka.admin()
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)
    with scene.run() as flow:
        refusal = flow.refusal()
    said = f"topic {scene.topics.lane_log}: with {name}={value} Kafka would delete remembered"
    assert said in refusal, refusal
    follow_advice(scene, refusal)
    scene.carry_on()


@fault(
    "files of remembered ids of another flow",
    "throws them away, and takes no payment for a duplicate of what only that one has",
    every=2,
    keeps_store=True,
)
def _foreign(scene: Scene) -> None:
    """Have another flow read what ours has still to decide, and put its files into our directory.

    It reads the same topic, and charges nobody. If its files were believed, payments would pass for
    duplicates that are in none of our outputs.
    """
    scene.carry_on(tuned(FILES))
    theirs = scene.new_directory("theirs")
    ours, other = scene.topics, Topics(f"{scene.topics.prefix}-theirs-{scene.runs}")
    scene.kafka.create_topics(dict.fromkeys(other.outputs, 3))
    scene.kafka.create_topics({other.lane_log: 3}, {"retention.ms": "-1"})
    other.create_pending(scene.kafka)
    count = scene.load.count
    environ = {
        **other.environ(),
        "KAFKA_TOPIC_REQUESTED": ours.requested,
        "LANES": str(scene.lanes),
        "KAFKA_START": "earliest",
        **tuned(FILES),
    }
    try:
        with Flow(scene.kafka, other, theirs, environ=environ) as flow:
            flow.wait_until_ready()
            flow.wait(lambda: flow.decided() > count, 60, "ahead of ours")
            assert flow.terminate() == 0
    finally:
        admin = scene.kafka.admin()  # which has to live until the last answer
        for deleted in admin.delete_topics(list(other.written)).values():
            deleted.result(30)
    files = theirs / "recovery" / _IDS
    assert [path for path in files.rglob("*") if path.is_file()], "the other flow has no files"
    shutil.rmtree(scene.recovery / _IDS, ignore_errors=True)
    shutil.copytree(files, scene.recovery / _IDS)
    scene.crash("after-commit", 1, tuned(FILES))
    scene.carry_on()
