"""The phases of an input partition, as one table.

1. What a phase emits, and which phase follows, is in `RULES` and nowhere else.
2. A phase that another follows by itself emits once, and then nothing until the epoch of that has
   closed everywhere: by then every lane has acted on it.
3. A phase that none follows emits whenever it is asked, in any number of epochs.
4. A process that is asked to stop begins no phase out of turn: a start is gone through first, as
   lanes that are open in part are worth nothing.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from dataflow.core.fenced import Fenced


class Phase(Enum):
    """The phase of a partition's life."""

    OPEN = auto()
    RESTORE = auto()
    LIVE = auto()
    DRAINING = auto()
    DRAINED = auto()


class Emission(Enum):
    """The kind of what a partition emits."""

    NOTHING = auto()
    """Until the epoch is closed."""
    OPEN = auto()
    """The signal of this name, as are the next ones."""
    RESTORE = auto()
    RECORDS = auto()
    """With signals beside them."""
    STOP = auto()
    """`DRAIN` or `RESTART`."""
    END = auto()
    """The end of the partition, for the engine."""


class Rule(NamedTuple):
    """A row of the table."""

    emits: Emission
    when_closed: Phase | None = None
    """The phase that follows once the epoch with what is emitted has closed."""
    when_stopping: Phase | None = None
    """The phase that follows at once when the process is asked to stop."""


RULES: Mapping[Phase, Rule] = {
    Phase.OPEN: Rule(Emission.OPEN, when_closed=Phase.RESTORE),
    Phase.RESTORE: Rule(Emission.RESTORE, when_closed=Phase.LIVE),
    Phase.LIVE: Rule(Emission.RECORDS, when_stopping=Phase.DRAINING),
    Phase.DRAINING: Rule(Emission.STOP, when_closed=Phase.DRAINED),
    Phase.DRAINED: Rule(Emission.END),
}


class PhaseSequence:
    """The way of one partition through the table.

    Attributes:
        phase: The phase it is in.
    """

    def __init__(self) -> None:
        self.phase = Phase.OPEN
        self._has_emitted = False

    def emit(self) -> Emission:
        """Return what is to be emitted now."""
        rule = RULES[self.phase]
        if rule.when_closed is None:
            return rule.emits
        if self._has_emitted:
            return Emission.NOTHING
        self._has_emitted = True
        return rule.emits

    def fenced(self) -> Fenced:
        """Return the proof that all lanes are open: that phase has ended everywhere."""
        if self.phase is Phase.OPEN:
            raise RuntimeError("some lanes may not be open: an earlier run may still commit")
        return Fenced()

    def stop(self) -> bool:
        """Take in that the process is asked to stop; return whether another phase begins."""
        return self._begin(RULES[self.phase].when_stopping)

    def epoch_closed(self) -> bool:
        """Take in that the partition's epoch has closed; return whether another phase begins."""
        return self._has_emitted and self._begin(RULES[self.phase].when_closed)

    def _begin(self, phase: Phase | None) -> bool:
        if phase is None:
            return False
        self.phase, self._has_emitted = phase, False
        return True
