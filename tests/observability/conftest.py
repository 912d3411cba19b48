"""A process whose clock stands still."""

from pathlib import Path

import pytest

from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.status import About, Status
from tests.observability.clock import LIVENESS_TIMEOUT_S, STARTUP_GRACE_S, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def status(clock: Clock) -> Status:
    return Status(
        About("1.2.3", "simulated", "staging", Path("/var/lib/payments/recovery")),
        LivenessLimits(LIVENESS_TIMEOUT_S, STARTUP_GRACE_S),
        monotonic=clock.monotonic,
        wall=clock.wall,
    )
