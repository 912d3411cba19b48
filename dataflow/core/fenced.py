"""The proof that a start needs before it asks what earlier runs have committed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fenced:
    """Every lane of this run is open, in all processes: no earlier run can commit any more.

    What an earlier run has committed may only be read with it, as it may still grow before. So it
    is made in one place, `dataflow.core.phases.PhaseSequence.fenced`, and goes to the lanes with
    `Signal.RESTORE`.
    """
