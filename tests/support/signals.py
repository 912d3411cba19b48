"""The signals by which a run starts."""

from typing import Any

from dataflow.core.fenced import Fenced
from dataflow.core.items import ControlMessage, Signal


def opening(partition: int = 0, next_offset: int = 0, **how: Any) -> ControlMessage:
    """Return the signal that has the lanes open."""
    return ControlMessage(Signal.OPEN, partition, next_offset, **how)


def restoring(partition: int = 0, next_offset: int = 0, **how: Any) -> ControlMessage:
    """Return the signal that has the lanes read back their history, all of them being open."""
    return ControlMessage(Signal.RESTORE, partition, next_offset, fenced=Fenced(), **how)
