"""How long the engine's epochs are, and how often a source that has caught up asks for more.

Each pass through the flow costs about the same, however few records are in it; records that arrive
one by one share it. What is emitted becomes visible when its epoch ends, so in long epochs nobody
gains by short ticks.
"""

from typing import NamedTuple

_SHORT_TICK_S = 0.02
"""Where every batch is an epoch, a tick delays an outcome."""
_TICKS_IN_A_SECOND = 10


class Epochs(NamedTuple):
    """The epochs of a run.

    Attributes:
        least_s: How long one takes at least, in seconds; 0 is an epoch for every batch.
        shared: Whether other workers have to close them, too.
    """

    least_s: float
    shared: bool = False

    @property
    def tick_s(self) -> float:
        """Seconds between two ticks.

        Half a tick is left over at the end of an epoch: then a little jitter does not move its end
        by a whole tick, and those of several partitions and processes, whose ticks are the same
        instants, end together.
        """
        ticks = self._whole_ticks
        return self.least_s / (ticks - 0.5) if ticks > 1 else _SHORT_TICK_S

    @property
    def collecting_s(self) -> float:
        """Seconds until the tick that ends an epoch."""
        return self._whole_ticks * self.tick_s

    @property
    def _whole_ticks(self) -> int:
        return max(1, round(self.least_s * _TICKS_IN_A_SECOND))
