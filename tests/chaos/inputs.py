"""The request topic grows or shrinks, its offsets expire; the gateway hangs."""

import re
import shlex

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewPartitions

from tests.chaos.catalogue import fault
from tests.chaos.provider import SIMULATED
from tests.chaos.scene import Scene

_TOOLS = {
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
}
"""The classes that Kafka's scripts start."""
_MOST_PARTITIONS = 6


@fault("input partitions added", "stops in order, starts itself anew, and reads them", every=2)
def _partitions_added(scene: Scene) -> None:
    grown = scene.load.partitions + 1
    if grown > _MOST_PARTITIONS:
        scene.carry_on()
        return
    with scene.run() as flow:
        scene.at_work(flow)
        wanted = [NewPartitions(scene.topics.requested, grown)]
        admin = scene.kafka.admin()
        for done in admin.create_partitions(wanted).values():
            done.result(30)
        scene.load.partitions = grown
        flow.wait(lambda: scene.load.ends.get(grown - 1), "sent to")
        scene.wait_until_decided(flow)
        assert flow.has_logged(f"has {grown} partitions now"), flow.log
        flow.stop()


def follow_advice(scene: Scene, refusal: str) -> None:
    """Run the command that a refusal ends with."""
    script, *args = shlex.split(refusal.splitlines()[-1])
    at = args.index("--bootstrap-server")
    scene.kafka.tool(_TOOLS[script], *args[:at], *args[at + 2 :])


@fault(
    "offsets of the lanes expired",
    "refuses, with a command that puts them back; after it, carries on",
    every=3,
)
def _offsets_expired(scene: Scene) -> None:
    scene.carry_on()
    scene.kafka.delete_groups(scene.topics.lane_groups(scene.lanes))
    for _ in range(scene.load.partitions):
        with scene.run() as flow:
            flow.wait(lambda: flow.ended or flow.flows[0].get("/ready")[0] == 200, "decided")
            if not flow.ended:
                break
            refusal = flow.refusal()
        assert re.search(r"stands at \d+, but the lanes have only", refusal), refusal
        follow_advice(scene, refusal)
    scene.carry_on()


@fault(
    "records deleted by retention before they were read",
    "refuses, and says how to go on; then it carries on without them",
    every=3,
)
def _retention(scene: Scene) -> None:
    scene.load.pause()
    scene.carry_on()
    scene.load.new_era()
    scene.load.burst(200)
    topic, partition = scene.topics.requested, scene.rng.randrange(scene.load.partitions)
    read_up_to = _group_offset(scene, partition)
    low = scene.rng.randint(read_up_to + 1, scene.load.ends[partition])
    where = TopicPartition(topic, partition, low)
    admin = scene.kafka.admin()
    for deleted in admin.delete_records([where]).values():
        deleted.result(30)
    with scene.run() as flow:
        refusal = flow.refusal()
    assert f"but retention has deleted everything below {low}" in refusal, refusal
    assert f"{low - read_up_to} offsets were never read" in refusal, refusal
    assert "KAFKA_START=earliest" in refusal
    scene.load.lose(partition, read_up_to, low)
    scene.load.resume()
    scene.carry_on({"KAFKA_START": "earliest"})


def _group_offset(scene: Scene, partition: int) -> int:
    config = {"bootstrap.servers": scene.kafka.bootstrap, "group.id": scene.topics.group}
    consumer = Consumer(config)
    try:
        [found] = consumer.committed([TopicPartition(scene.topics.requested, partition)], 30)
    finally:
        consumer.close()
    return found.offset


@fault(
    "gateway hangs",
    "parks what has no answer, and stops in order; the restart carries on",
    gateways=(SIMULATED,),
)
def _gateway_hangs(scene: Scene) -> None:
    with scene.run({"SIMULATED_LATENCY": "60s", "GATEWAY_PARK_AFTER": "1s"}) as flow:
        scene.at_work(flow)
        flow.stop()
    scene.carry_on()
