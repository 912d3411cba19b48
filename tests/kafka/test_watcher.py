"""The watcher, at a Kafka that goes silent in the middle of a look."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dataflow.config.settings import Settings
from dataflow.kafka import watcher
from dataflow.kafka.partition_offsets import Ends
from dataflow.kafka.watcher import Watcher
from dataflow.runtime import Runtime
from tests.support.required import REQUIRED

LOG = "payments.lane-log"
REQUESTED = "payments.payment-requested"


class Admin:
    """A client whose broker answers so many requests for offsets, and then is silent."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.waited_s: list[float] = []

    def list_topics(self, timeout: float) -> Any:
        self.waited_s.append(timeout)
        return SimpleNamespace(topics={REQUESTED: SimpleNamespace(partitions={0: None})})

    def list_offsets(
        self, wanted: dict[TopicPartition, Any], *, request_timeout: float, **_level: Any
    ) -> dict[TopicPartition, Future[Any]]:
        self.waited_s.append(request_timeout)
        self.answers -= 1
        future: Future[Any] = Future()
        if self.answers >= 0:
            future.set_result(SimpleNamespace(offset=7))
        else:
            future.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        return dict.fromkeys(wanted, future)


def look(admin: Admin) -> Ends:
    context = Runtime(Settings.from_env(REQUIRED | {"KAFKA_BROKERS": "127.0.0.1:1"})).context
    ends = Ends(LOG)
    ends.offsets = {0: 5}
    looks: Any = Watcher(context, ends)
    looks._admin = admin
    looks.look()
    return ends


def test_a_look_has_all_ends() -> None:
    assert look(Admin(answers=3)).offsets == {0: 7}


def test_a_kafka_that_goes_silent_gets_one_more_request_at_most() -> None:
    """The next look finds that it is away; this one must not wait for each of its requests."""
    admin = Admin(answers=0)
    assert look(admin).offsets == {0: 5}
    assert len(admin.waited_s) == 2


@pytest.mark.parametrize("answers", range(4))
def test_no_request_of_a_look_waits_longer_than_the_time_between_two(answers: int) -> None:
    """As long as a request waits, `payments_kafka_reachable` may be wrong."""
    admin = Admin(answers)
    look(admin)
    assert max(admin.waited_s) <= watcher._WATCH_EVERY_S
