"""The effects of transactions: the numbers that are counted while one is open."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from schemas.outcomes import ErrorCode

_K = TypeVar("_K")
_N = TypeVar("_N", int, Decimal)


@dataclass(slots=True)
class CommitCounts:
    """The effect of one lane's transaction, counted while it is open, published once committed."""

    processed: int = 0
    failed: dict[ErrorCode, int] = field(default_factory=dict)
    """Failed payments by error code."""
    duplicates: int = 0
    conflicts: int = 0
    parked: int = 0
    """Payments that began to wait for the gateway on the pending topic..."""
    resolved: int = 0
    """... and those that got their outcome after that."""
    approved_amounts: dict[str, Decimal] = field(default_factory=dict)
    """Money of the processed payments by currency, in major units."""
    declined_amounts: dict[str, Decimal] = field(default_factory=dict)
    """Money of the payments that the gateway declined, likewise."""
    produced: dict[str, int] = field(default_factory=dict)
    """Records written, by output topic."""
    log_entries: int = 0
    log_bytes: int = 0
    """Written to the lane's log."""

    def add(self, other: "CommitCounts") -> None:
        """Count everything in `other` here too."""
        self.processed += other.processed
        self.duplicates += other.duplicates
        self.conflicts += other.conflicts
        self.parked += other.parked
        self.resolved += other.resolved
        self.log_entries += other.log_entries
        self.log_bytes += other.log_bytes
        _add(self.failed, other.failed)
        _add(self.produced, other.produced)
        _add(self.approved_amounts, other.approved_amounts)
        _add(self.declined_amounts, other.declined_amounts)


def _add(to: dict[_K, _N], more: Mapping[_K, _N]) -> None:
    for key, number in more.items():
        to[key] = to[key] + number if key in to else number
