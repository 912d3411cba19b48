"""The time a start waits for a Kafka that is just coming back; on a clock of its own."""

import signal
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from dataflow.kafka import retry
from dataflow.kafka.retry import OutageRetry, retry_briefly
from dataflow.observability import outage
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.status import About, Status
from dataflow.service.shutdown import Lifecycle


class Kafka:
    """A client that answers `calls` with errors until its time has come."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        well_after_s: float,
        error: int = KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    ) -> None:
        self.error = error
        self.now_s = 1_000.0
        self.well_at_s = self.now_s + well_after_s
        self.calls_at_s: list[float] = []
        clock = SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.sleep)
        for module in (retry, outage):
            monkeypatch.setattr(module, "time", clock)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def ask(self) -> str:
        self.calls_at_s.append(self.now_s)
        if self.now_s < self.well_at_s:
            raise KafkaException(KafkaError(self.error))
        return "an answer"


def test_an_answer_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(monkeypatch, well_after_s=0)
    assert retry_briefly(kafka.ask) == "an answer"
    assert kafka.calls_at_s == [1_000.0]


def test_an_error_is_retried_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(monkeypatch, well_after_s=5)
    assert retry_briefly(kafka.ask) == "an answer"
    first, *rest = kafka.calls_at_s
    assert (first, len(rest) > 1) == (1_000.0, True)
    assert rest[0] - first >= 0.1
    assert rest[-1] - kafka.well_at_s < 1, "was not noticed soon"


def test_the_error_is_raised_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(monkeypatch, well_after_s=3600)
    with pytest.raises(KafkaException) as caught:
        retry_briefly(kafka.ask)
    assert caught.value.args[0].code() == KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    assert 15 < kafka.now_s - 1_000 < 30


def test_other_exceptions_are_not_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(monkeypatch, well_after_s=0)

    def broken() -> None:
        kafka.ask()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        retry_briefly(broken)
    assert len(kafka.calls_at_s) == 1


class Ended(BaseException):
    """The end of the process, as seen here."""


class TestOutageRetry:
    @pytest.fixture
    def status(self) -> Status:
        return Status(About("1"), LivenessLimits(30))

    @pytest.fixture
    def lifecycle(self, status: Status) -> Lifecycle:
        def end(code: int) -> None:
            raise Ended(code)

        lifecycle = Lifecycle(status, end)
        lifecycle.begin()
        return lifecycle

    @pytest.mark.parametrize(
        "error", [KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError.NOT_COORDINATOR]
    )
    def test_an_outage_is_waited_out_however_long(
        self,
        error: int,
        status: Status,
        lifecycle: Lifecycle,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        kafka = Kafka(monkeypatch, 3600, error)
        assert OutageRetry(status, lifecycle)(kafka.ask) == "an answer"
        assert kafka.now_s - kafka.well_at_s < 1, "was not noticed soon"

    def test_another_error_is_raised_in_the_end(
        self, status: Status, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kafka = Kafka(monkeypatch, 3600, KafkaError.GROUP_AUTHORIZATION_FAILED)
        with pytest.raises(KafkaException):
            OutageRetry(status, lifecycle)(kafka.ask)
        assert 15 < kafka.now_s - 1_000 < 30

    def test_it_is_declared_while_it_lasts(
        self, status: Status, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kafka = Kafka(monkeypatch, 0)
        declared: list[list[str]] = []

        def ask() -> None:
            declared.append(status.health()[1]["waiting_for"])
            kafka.ask()

        OutageRetry(status, lifecycle)(ask)
        assert declared == [["Kafka"]]
        assert status.health()[1]["waiting_for"] == []

    def test_the_log_has_it_at_once_then_at_a_calm_rhythm_and_its_end(
        self, status: Status, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kafka = Kafka(monkeypatch, 100, KafkaError._TRANSPORT)
        with capture_logs() as logged:
            OutageRetry(status, lifecycle)(kafka.ask)
        waited_s = [entry["waited_s"] for entry in logged[:-1]]
        assert waited_s == pytest.approx([0, 30, 60, 90], abs=2)
        assert {entry["reason"] for entry in logged[:-1]} == {"Local: Broker transport failure"}
        assert logged[-1]["event"] == "Kafka answers"
        assert 100 <= logged[-1]["waited_s"] < 101

    def test_a_second_outage_is_logged_at_once_as_well(
        self, status: Status, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kafka = Kafka(monkeypatch, 5, KafkaError._TRANSPORT)
        waits = OutageRetry(status, lifecycle)
        waits(kafka.ask)
        kafka.well_at_s = kafka.now_s + 5
        with capture_logs() as logged:
            waits(kafka.ask)
        assert [entry["event"] for entry in logged] == ["waiting for Kafka", "Kafka answers"]

    def test_a_signal_ends_it(
        self, status: Status, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kafka = Kafka(monkeypatch, 3600, KafkaError._TRANSPORT)

        def ask() -> None:
            if kafka.now_s > 1_010 and not lifecycle.stopping:
                lifecycle.take(signal.SIGTERM)
            kafka.ask()

        with pytest.raises(Ended) as ended:
            OutageRetry(status, lifecycle)(ask)
        assert ended.value.args == (0,)
        assert kafka.now_s < 1_012

    def test_a_restart_that_another_process_wants_does_not_end_it(
        self, status: Status, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kafka = Kafka(monkeypatch, 60, KafkaError._TRANSPORT)
        lifecycle.request_stop("more partitions", restart=True)
        assert OutageRetry(status, lifecycle)(kafka.ask) == "an answer"
