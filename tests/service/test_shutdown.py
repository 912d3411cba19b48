"""The effect of a signal, before the engine runs the flow and after."""

import signal

import pytest

from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.status import About, Status
from dataflow.service.shutdown import Lifecycle


class Ended(BaseException):
    """The end of the process, as seen here."""


@pytest.fixture
def status() -> Status:
    return Status(About("1"), LivenessLimits(30))


@pytest.fixture
def lifecycle(status: Status) -> Lifecycle:
    def end(code: int) -> None:
        raise Ended(code)

    return Lifecycle(status, end)


def exit_code(lifecycle: Lifecycle, number: signal.Signals) -> int:
    with pytest.raises(Ended) as ended:
        lifecycle.take(number)
    return int(ended.value.args[0])


def test_a_signal_before_the_flow_runs_ends_the_process_in_order(lifecycle: Lifecycle) -> None:
    assert exit_code(lifecycle, signal.SIGTERM) == 0


def test_a_signal_once_it_runs_is_left_to_the_sources(lifecycle: Lifecycle, status: Status) -> None:
    lifecycle.begin()
    lifecycle.take(signal.SIGINT)
    assert lifecycle.stopping
    assert status.ready()[1].startswith("draining")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals, lifecycle: Lifecycle) -> None:
    lifecycle.begin()
    lifecycle.take(signal.SIGTERM)
    assert exit_code(lifecycle, number) == 128 + number


def test_a_signal_after_another_reason_to_stop_is_the_first_signal(lifecycle: Lifecycle) -> None:
    lifecycle.begin()
    lifecycle.request_stop("more partitions", restart=True)
    lifecycle.take(signal.SIGTERM)
    assert not lifecycle.restart_wanted


def test_a_wait_at_a_start_is_ended_by_a_signal_only(lifecycle: Lifecycle) -> None:
    lifecycle.begin()
    lifecycle.end_if_signalled()
    lifecycle.request_stop("more partitions", restart=True)
    lifecycle.end_if_signalled()
    lifecycle.take(signal.SIGTERM)
    with pytest.raises(Ended):
        lifecycle.end_if_signalled()
