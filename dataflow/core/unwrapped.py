"""The records of one poll once those of other formats have become JSON."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from schemas.requests import Rejected


class Unwrapped(NamedTuple):
    """The leading records of a poll, as JSON; those behind them wait for a schema."""

    values: list[bytes | None]
    """Only as many as can be decided now. One that is refused is as it was."""
    refused: dict[int, Rejected]
    """Those that cannot be read, by their number in `values`."""


UnwrapRecords = Callable[[Sequence[bytes | None]], Unwrapped]
"""Returns the records of a poll as JSON. Never waits, never raises."""
