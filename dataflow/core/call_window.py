"""The number of calls to the provider that may be in flight, as a window that slides.

A new call begins whenever one ends, so that a call which hangs takes one place, not everybody's
turn. After an outage the window opens step by step: a provider that has just come back is not hit
by everything that waited.

1. At most `most` calls are in flight, and at the beginning so many.
2. After `shut`, one; every definite answer then makes room for one more, which doubles it in each
   round trip.
"""


class CallWindow:
    """The calls in flight of one process."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = most
        """The calls that may be in flight now."""
        self.in_flight = 0

    @property
    def free(self) -> int:
        """The number of calls that may begin now."""
        return max(0, self.limit - self.in_flight)

    def began(self) -> None:
        """Note that a call was sent."""
        self.in_flight += 1

    def ended(self, *, definite: bool) -> None:
        """Note that a call has ended."""
        self.in_flight -= 1
        if definite:
            self.limit = min(self.most, self.limit + 1)

    def shut(self) -> None:
        """Let one call in flight from now on; those that are stay."""
        self.limit = 1
