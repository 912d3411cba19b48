"""The possible findings: every kind, counted, with the first few examples of each."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

EXAMPLES = 5
"""Of each kind; the rest is counted."""


class FindingKind(StrEnum):
    """Every way in which an invariant can be broken. Part of the `--json` output."""

    LOST = "lost"
    """A request that was passed over: no audit event, or a paymentId without any outcome."""
    DOUBLED = "doubled"
    """Two outcomes or two audit events of one record, or two outcomes of one paymentId."""
    TORN = "torn"
    """An outcome without its audit event, the reverse, or the two with different decisions."""
    PHANTOM = "phantom"
    """An output without an input record, or one that is no event of the flow's."""
    CONTENT = "wrong_content"
    """An event whose fields do not follow from the request."""
    VERDICT = "wrong_verdict"
    """A duplicate or conflict that is none, or that names a wrong first record."""
    UNCLAIMED = "unclaimed"
    """A payment with an outcome that the lanes' log has not claimed: a copy would be charged."""
    CLAIM = "wrong_claim"
    """A claim in the lanes' log without an outcome of that record, or of other content: copies of a
    payment that was never made would pass for its repeats."""
    ORDER = "out_of_order"
    """Records of one paymentId that were decided in another order than they came."""
    MONEY = "money"
    """A currency in which not as much was decided as was asked for."""
    OPEN = "open_transaction"
    """A partition whose end no `read_committed` reader can see."""
    POSITION = "not_at_the_end"
    """A committed offset that is not at the end of the input, or beyond it."""
    UNSEEN = "unseen"
    """A record that a reader saw at first, and a later one did not, or saw otherwise."""
    COMPACTED = "compacted"
    """A topic whose records are deleted by key: events of one payment replace each other."""
    EMPTY = "empty"
    """There is nothing to check."""


class RecordPlace(NamedTuple):
    """The place of a record."""

    topic: str
    partition: int
    offset: int


class Finding(NamedTuple):
    """One thing that is wrong."""

    kind: FindingKind
    text: str
    place: RecordPlace | None = None
    """The record to look at, where there is one."""


class Findings:
    """Everything that is wrong: how much of it, and examples."""

    def __init__(self) -> None:
        self.counts: Counter[FindingKind] = Counter()
        self._examples: defaultdict[FindingKind, list[Finding]] = defaultdict(list)

    def __bool__(self) -> bool:
        """Return whether anything is wrong."""
        return self.counts.total() > 0

    @property
    def examples(self) -> list[Finding]:
        """The first few of each kind, in the order of the kinds."""
        return [finding for kind in FindingKind for finding in self._examples[kind]]

    def add(self, kind: FindingKind, text: str, place: RecordPlace | None = None) -> None:
        """Add one finding."""
        self.add_all(kind, text, 1, [place])

    def add_all(
        self, kind: FindingKind, text: str, count: int, places: Iterable[RecordPlace | None]
    ) -> None:
        """Add so many findings of one kind; of `places` only as many are taken as are shown."""
        if not count:
            return
        self.counts[kind] += count
        shown = self._examples[kind]
        for place in places:
            if len(shown) >= EXAMPLES:
                return
            shown.append(Finding(kind, text, place))
