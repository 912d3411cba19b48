"""At a start Kafka may be just coming back itself: coordinators move, leaders are elected."""

import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaException

_T = TypeVar("_T")

_AT_MOST_S = 20.0
_PAUSE_S = 0.3


def patiently(call: Callable[[], _T]) -> _T:
    """What `call` returns, tried again for a while when Kafka gives an error.

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
