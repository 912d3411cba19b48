"""How long a start waits for a Kafka that is just coming back; on a clock of its own."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from dataflow.connectors import patience
from dataflow.connectors.patience import patiently


class Kafka:
    """Answers `calls` with errors until its time has come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, well_after_s: float) -> None:
        self.now_s = 1_000.0
        self.well_at_s = self.now_s + well_after_s
        self.calls_at_s: list[float] = []
        clock = SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.sleep)
        monkeypatch.setattr(patience, "time", clock)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def ask(self) -> str:
        self.calls_at_s.append(self.now_s)
        if self.now_s < self.well_at_s:
            raise KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS))
        return "an answer"


def test_an_answer_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(monkeypatch, well_after_s=0)
    assert patiently(kafka.ask) == "an answer"
    assert kafka.calls_at_s == [1_000.0]


def test_an_error_is_asked_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(monkeypatch, well_after_s=5)
    assert patiently(kafka.ask) == "an answer"
    first, *rest = kafka.calls_at_s
    assert (first, len(rest) > 1) == (1_000.0, True)
    assert rest[0] - first >= 0.1
    assert rest[-1] - kafka.well_at_s < 1, "was not noticed soon"


def test_in_the_end_the_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(monkeypatch, well_after_s=3600)
    with pytest.raises(KafkaException) as caught:
        patiently(kafka.ask)
    assert caught.value.args[0].code() == KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    assert 15 < kafka.now_s - 1_000 < 30


def test_other_exceptions_are_not_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(monkeypatch, well_after_s=0)

    def broken() -> None:
        kafka.ask()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        patiently(broken)
    assert len(kafka.calls_at_s) == 1
