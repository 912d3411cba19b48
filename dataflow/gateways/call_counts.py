"""The calls to a gateway since the start, as they are counted: what was asked, and what came of it.

Written on the gateway's loop, once for each call or batch; read by any thread.
"""

from collections import Counter
from collections.abc import Sequence

from dataflow.core.charging import NOT_FOUND, CallKind, Durations
from dataflow.gateways.port import Approved, Declined, Reply
from dataflow.observability.histogram import Buckets

DEFINITE = frozenset({Approved, Declined})
_BOUNDS_S = (*(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),)
"""From a provider in the same rack to a call that is given up."""


def kind_of(reply: Reply | None) -> str:
    """Return the kind of a reply, as it is counted."""
    return NOT_FOUND if reply is None else type(reply).__name__


class CallCounts:
    """The counts of one process.

    Attributes:
        key_replays: Charges under a key that may have been used before.
    """

    def __init__(self) -> None:
        self.key_replays = 0
        self._calls = dict.fromkeys(CallKind, 0)
        self._replies: Counter[str] = Counter()
        self._durations = {True: Buckets(_BOUNDS_S), False: Buckets(_BOUNDS_S)}

    def probed(self) -> None:
        """Count a probe: it moves no money, and has no reply about a payment."""
        self._calls[CallKind.PROBE] += 1

    def replied(
        self, kind: CallKind, reply: Reply | None, seconds: float, trace_id: str | None = None
    ) -> None:
        """Count a call, its reply, and how long that took; its trace is an example of that."""
        self._calls[kind] += 1
        self._replies[kind_of(reply)] += 1
        duration = self._durations[type(reply) in DEFINITE]
        duration.observe(seconds)
        duration.exemplify(seconds, trace_id)

    def replied_to_all(
        self, replies: Sequence[Reply], seconds: float, trace_id: str | None = None
    ) -> None:
        """Count charges that were made as a whole; one of them may have a trace."""
        self._calls[CallKind.CHARGE] += len(replies)
        kinds = Counter(map(type, replies))
        for kind, number in kinds.items():
            self._replies[kind.__name__] += number
        definite = sum(kinds[kind] for kind in DEFINITE)
        self._durations[True].observe(seconds, definite)
        if definite:
            self._durations[True].exemplify(seconds, trace_id)
        self._durations[False].observe(seconds, len(replies) - definite)

    @property
    def calls(self) -> dict[CallKind, int]:
        """The calls, by kind."""
        return self._calls.copy()

    @property
    def replies(self) -> dict[str, int]:
        """The replies, by kind."""
        return dict(self._replies)

    @property
    def durations(self) -> dict[bool, Durations]:
        """The durations of the calls: of those with a definite answer, and of the others."""
        return {definite: each.now() for definite, each in self._durations.items()}
