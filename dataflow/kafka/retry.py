"""At a start Kafka may be away, or just coming back: coordinators move, leaders are elected.

A command that a person waits for gives up soon (`retry_briefly`). The flow itself waits as long as
it takes (`OutageRetry`): a process that ended would come back to the same outage, and its
supervisor would start it later each time. Both are for calls that have not begun anything.
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

from dataflow.observability.outage import Outage
from dataflow.observability.status import Status
from dataflow.service.shutdown import Lifecycle

_T = TypeVar("_T")

_AT_MOST_S = 20.0
_PAUSE_S = 0.3

PASSING = {
    KafkaError._TRANSPORT,  # noqa: SLF001  (local codes have no public names)
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
}
"""Errors of brokers that are away or changing: they pass once enough brokers are back."""
_ABSENT = PASSING | {
    KafkaError._WAIT_COORD,  # noqa: SLF001
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.REQUEST_TIMED_OUT,
}
"""The same of calls, which also need a coordinator."""


def passes(error: KafkaError) -> bool:
    """Return whether an error passes by itself, once enough brokers and coordinators are back."""
    return error.code() in _ABSENT or error.retriable()


class Retry(Protocol):
    """The way to make a call that Kafka may not be able to answer yet."""

    def __call__(self, call: Callable[[], _T]) -> _T:
        """Return what `call` returns; raise the `KafkaException` that it ends with."""


def retry_briefly(call: Callable[[], _T]) -> _T:
    """Return the result of `call`, tried again for a while when Kafka gives an error.

    Raises:
        KafkaException: the last error, when time was up.
    """
    deadline_s = time.monotonic() + _AT_MOST_S
    while True:
        try:
            return call()
        except KafkaException:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_PAUSE_S)


class OutageRetry:
    """A wait for the end of an outage at a start: alive, not ready, with the reason in the log.

    A signal ends the wait, and the process: nothing has been decided yet. Safe to use from any
    thread.
    """

    def __init__(self, status: Status, lifecycle: Lifecycle) -> None:
        self._status = status
        self._lifecycle = lifecycle
        self._outage = Outage("waiting for Kafka")

    def __call__(self, call: Callable[[], _T]) -> _T:
        """Return the result of `call`, tried again for as long as brokers or coordinators are away.

        Raises:
            KafkaException: another error, which has not passed for a while.
        """
        with self._status.waiting("Kafka"):
            while True:
                try:
                    answer = retry_briefly(lambda: self._once(call))
                except _AbsentError as absent:
                    self.sit_out(absent.reason)
                    time.sleep(_PAUSE_S)
                else:
                    self.answered()
                    return answer

    def _once(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if passes(reason):
                raise _AbsentError(reason.str()) from error
            raise

    def sit_out(self, reason: str) -> None:
        """Note that Kafka is away at this moment; do not return if a signal asks for a stop."""
        self._lifecycle.end_if_signalled()
        self._outage.lasts(reason)

    def answered(self) -> None:
        """Note that Kafka is there."""
        self._outage.is_over()


class _AbsentError(Exception):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Deadline:
    """The time for which nothing may happen; it is put off whenever something does."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Put it off: something has happened."""
        self._at_s = time.monotonic() + self.seconds

    def is_over(self) -> bool:
        """Return whether nothing has happened for so long."""
        return time.monotonic() > self._at_s
