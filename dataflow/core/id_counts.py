"""The number of ids a lane remembers, counted without a look at them: there may be 100 million.

An id is counted in the span of its date. Ids that were in files when the count began may not be
counted; then the number is too low, and never too high, until those are forgotten.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class IdCounts:
    """Ids by the span of their date.

    Args:
        span_s: How many seconds a span has.
        counts: Ids by the begin of their span, in seconds since 1970.
        uncounted_s: Ids dated up to here may not be counted; -1 if all are.

    Attributes:
        uncounted_s: As above.
    """

    def __init__(
        self, span_s: int, counts: Mapping[int, int] | None = None, uncounted_s: int = -1
    ) -> None:
        self._span_s = span_s
        self._counts = dict(counts or {})
        self.uncounted_s = uncounted_s

    def __len__(self) -> int:
        """Return the number of counted ids."""
        return sum(self._counts.values())

    def by_span(self) -> dict[int, int]:
        """Return the ids by the begin of their span."""
        return {span: count for span, count in self._counts.items() if count}

    def add(self, date_s: int, count: int) -> None:
        """Count so many ids at one date."""
        span = date_s // self._span_s * self._span_s
        self._counts[span] = self._counts.get(span, 0) + count

    def add_all(self, dates_s: NDArray[Any]) -> None:
        """Count ids at their dates."""
        for span, count in self._spans(dates_s):
            self._counts[span] = self._counts.get(span, 0) + count

    def remove_all(self, dates_s: NDArray[Any]) -> None:
        """Count ids no more that had these dates, as they have others now."""
        for span, count in self._spans(dates_s):
            self._counts[span] = max(0, self._counts.get(span, 0) - count)

    def forget(self, since_s: int) -> None:
        """Count no id that is dated before; of the span in whose midst that is, none any more."""
        self._counts = {span: count for span, count in self._counts.items() if span >= since_s}
        if begun_s := since_s % self._span_s:
            self.uncounted_s = max(self.uncounted_s, since_s - begun_s + self._span_s - 1)

    def _spans(self, dates_s: NDArray[Any]) -> list[tuple[int, int]]:
        """Return how many of the dates are in each span."""
        if not len(dates_s):
            return []
        spans, counts = np.unique(dates_s // self._span_s * self._span_s, return_counts=True)
        return list(zip(spans.tolist(), counts.tolist(), strict=True))
