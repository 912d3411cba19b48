"""The decisions of persons, as the client gives them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from dataflow.config.settings import Settings
from dataflow.core.lane_log import headers
from dataflow.core.persons_decisions import DecisionInbox
from dataflow.kafka.decision_reader import DecisionReader
from schemas import decisions
from schemas.decisions import PersonsDecision
from tests.core.test_persons_decisions import FAILED, PROCESSED
from tests.support.fake_scan import FakeMessage
from tests.support.required import REQUIRED

LANE = headers(0, 4)


class Trouble(FakeMessage):
    def __init__(self, code: int) -> None:
        super().__init__(None, None, None, 0)
        self._error = KafkaError(code)

    def error(self) -> KafkaError:  # type: ignore[override]
        return self._error


END = Trouble(KafkaError._PARTITION_EOF)


class Delivered:
    """A reader, and what it has handed over."""

    def __init__(self) -> None:
        self.decisions: list[PersonsDecision] = []
        kafka = Settings.from_env(REQUIRED).kafka
        self.where = TopicPartition("pending", 0, 5)
        self._reader = DecisionReader(kafka, self.where, DecisionInbox(4), self._deliver)

    def _deliver(self, found: Mapping[int, Sequence[PersonsDecision]]) -> None:
        self.decisions += [each for mine in found.values() for each in mine]

    def take(self, *messages: Any) -> list[PersonsDecision]:
        self._reader.take(messages)
        found, self.decisions = self.decisions, []
        return found


def record(decision: PersonsDecision, offset: int = 5) -> FakeMessage:
    return FakeMessage(decision.key, decisions.encode(decision), None, offset)


def test_a_decision_is_handed_over_at_the_end_of_the_topic_once() -> None:
    delivered = Delivered()
    assert delivered.take(record(PROCESSED)) == [], "its tombstone may follow"
    assert delivered.take(END) == [PROCESSED]
    assert delivered.take(END) == []
    assert delivered.where.offset == 6


def test_a_decision_that_is_over_is_not_handed_over() -> None:
    over = FakeMessage(PROCESSED.key, None, LANE, 6)
    assert Delivered().take(record(PROCESSED), over, END) == []


def test_the_entries_of_payments_are_passed_over() -> None:
    delivered = Delivered()
    assert delivered.take(FakeMessage(b"e-1", b"{}", LANE, 9), END) == []
    assert delivered.where.offset == 10


def test_a_record_that_is_no_decision_stops_nothing() -> None:
    broken = FakeMessage(PROCESSED.key, b"{", None, 5)
    with capture_logs() as logs:
        assert Delivered().take(broken, record(FAILED, 6), END) == [FAILED]
    [line] = logs
    assert line["offset"] == 5
    assert "cannot be read" in line["event"]


def test_an_error_that_passes_is_passed_over_and_any_other_begins_again() -> None:
    delivered = Delivered()
    assert delivered.take(Trouble(KafkaError._TRANSPORT), record(FAILED), END) == [FAILED]
    with pytest.raises(KafkaException):
        delivered.take(Trouble(KafkaError.TOPIC_AUTHORIZATION_FAILED))
