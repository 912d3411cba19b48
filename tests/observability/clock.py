"""A clock that moves on command, and the limits that the tests set by it."""

LIVENESS_TIMEOUT_S = 60.0
STARTUP_GRACE_S = 120.0


class Clock:
    """Seconds that pass on command; the wall clock reads a fixed date plus those."""

    def __init__(self) -> None:
        self.now = 5.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds
