"""The second pass: all events about each paymentId.

Of all valid requests for it, one has an outcome, and the others are repeats of that one; a second
outcome is right only where the id had been forgotten by then, which is a matter of `DEDUPE_WINDOW`.
And the lanes' log has a claim for each outcome, and no other ones.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflow.verify import rows
from dataflow.verify.findings import EXAMPLES, FindingKind, Findings
from dataflow.verify.record_rules import Mask, RecordCounts, Records
from dataflow.verify.rows import Rows

_PARTITION_SHIFT = np.uint64(48)
_CLAIM = ["key_high", "key_low", "origin", "print"]


class Times(NamedTuple):
    """The times of the flow by which repeats and claims are judged."""

    window_ms: int
    """An id is remembered so long."""
    decides_within_ms: int
    """So long after it was read, at most, a request is decided: an id is dated by when it was
    read."""
    claimed_from_ms: int
    """The claims of what was decided earlier may have been trimmed."""


class Payments:
    """The rules of the second pass.

    Args:
        times: What of the flow's times the rules need.
        running: The log may have claims that the outputs were read too early for.
        records: Has places, and what retention has left.
        findings: Gets what is wrong.
        totals: Counts.
    """

    def __init__(
        self,
        *,
        times: Times,
        running: bool,
        records: Records,
        findings: Findings,
        totals: RecordCounts,
    ) -> None:
        self._times = times
        self._running = running
        self._records = records
        self._findings = findings
        self._totals = totals

    def judge(self, sightings: Rows, claims: Rows) -> None:
        """Judge all sightings of some paymentIds, and all entries of the lanes' log for them."""
        order = np.lexsort((sightings["origin"], sightings["key_low"], sightings["key_high"]))
        sightings = sightings[order]
        self._judge_order(sightings)
        sightings = sightings[sightings["valid"]]
        self._judge_log(sightings, claims)
        if not len(sightings):
            return
        begins = np.append(True, _other_key(sightings))
        payment = np.cumsum(begins) - 1
        self._totals.payments += int(payment[-1]) + 1
        counts = np.bincount(payment, _is_first(sightings)).astype(np.int64)
        unknown = self._judge_repeats(sightings, payment, counts)
        self._judge_presence(sightings, payment, counts, unknown)
        for each in np.flatnonzero(counts > 1).tolist():
            start, end = np.searchsorted(payment, [each, each + 1])
            self._judge_claims(sightings[start:end])
            self._judge_waiting(sightings[start:end])

    def _judge_log(self, sightings: Rows, claims: Rows) -> None:
        """Check that each outcome is claimed by its record, and nothing else is."""
        self._totals.claims += len(claims)
        # Claims go ahead: a record that the flow has not got to may be claimed.
        ahead = (sightings["verdict"] == rows.NONE) & ~self._records.is_reached(sightings["origin"])
        firsts = sightings[_is_first(sightings) | ahead]
        firsts = firsts[np.argsort(firsts["origin"])]
        # Of several entries for one claim, the others only prolong its life.
        claims = _distinct(claims)
        at = np.searchsorted(firsts["origin"], claims["origin"])
        made = np.zeros(len(claims), np.bool_)
        inside = at < len(firsts)
        of = firsts[at[inside]]
        made[inside] = np.logical_and.reduce([of[name] == claims[name][inside] for name in _CLAIM])
        claimed = np.zeros(len(firsts), np.bool_)
        claimed[at[made]] = True
        missed = ~claimed & firsts["required"] & _is_first(firsts)
        missed &= firsts["decided_ms"] > self._times.claimed_from_ms + self._times.decides_within_ms
        text = "has an outcome, but the lanes' log has no claim of it"
        places = self._records.request_places(firsts["origin"][missed])
        self._findings.add_all(FindingKind.UNCLAIMED, text, *places)
        wrong = claims[~made]
        judged = self._records.is_known(wrong["origin"])
        self._totals.unknown += int(np.count_nonzero(~judged))
        if self._running:
            judged &= self._records.is_reached(wrong["origin"])
        text = "claims a paymentId for a record that has no outcome, or another content"
        places = self._records.claim_places(wrong[judged])
        self._findings.add_all(FindingKind.CLAIM, text, *places)

    def _judge_order(self, sightings: Rows) -> None:
        """Check that a paymentId's audit events on a partition stand in its records' order.

        Without those of payments: one that had to wait for the gateway comes after its repeats.
        """
        is_payment = sightings["valid"] & _is_first(sightings)
        seen = sightings[(sightings["offset"] >= 0) & ~is_payment]
        if not len(seen):
            return
        before, after = seen[:-1], seen[1:]
        wrong = (
            ~_other_key(seen)
            & (before["origin"] >> _PARTITION_SHIFT == after["origin"] >> _PARTITION_SHIFT)
            & (before["partition"] == after["partition"])
            & (before["offset"] > after["offset"])
        )
        self._audit(FindingKind.ORDER, "comes before the event of an earlier record", after[wrong])

    def _judge_repeats(
        self, sightings: Rows, payment: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Check that a repeat names its id's claim; return which payments cannot be judged."""
        is_repeat = _is_repeat(sightings)
        mine, repeats = payment[is_repeat], sightings[is_repeat]
        found = _find(sightings, payment, mine, repeats["first"])
        missing = found < 0
        unknown = np.zeros(len(counts), np.bool_)
        deleted = missing & ~self._records.is_known(repeats["first"])
        # Without a claim, and with a claim that may have been deleted: not known who was first.
        maybe = ~missing & ~sightings["required"][found] & (counts[mine] == 0)
        unknown[mine[deleted | maybe]] = True
        self._totals.unknown += int(np.count_nonzero(deleted))
        # A payment that nobody was charged for is lost, whatever its repeats state.
        judged = ~missing & ((counts[mine] > 0) | unknown[mine])
        stray = missing & ~deleted & (counts[mine] > 0)
        text = "names a first record that is no request for this paymentId"
        self._audit(FindingKind.VERDICT, text, repeats[stray])
        repeats, firsts = repeats[judged], sightings[found[judged]]
        repeated = _is_repeat(firsts)
        text = "names a first record that is a repeat itself"
        self._audit(FindingKind.VERDICT, text, repeats[repeated])
        same = firsts["print"] == repeats["print"]
        wrong = ~repeated & (same != (repeats["verdict"] == rows.DUPLICATE))
        text = "is a duplicate of other content, or a conflict of the same"
        self._audit(FindingKind.VERDICT, text, repeats[wrong])
        one_input = firsts["origin"] >> _PARTITION_SHIFT == repeats["origin"] >> _PARTITION_SHIFT
        # Of the input: its event may come later, if it had to wait for the gateway.
        early = one_input & (firsts["origin"] > repeats["origin"])
        self._audit(FindingKind.ORDER, "comes before the record that it repeats", repeats[early])
        return unknown

    def _judge_presence(
        self,
        sightings: Rows,
        payment: NDArray[np.int64],
        counts: NDArray[np.int64],
        unknown: NDArray[np.bool_],
    ) -> None:
        """Check that a paymentId that was answered at all has an outcome."""
        answered = np.bincount(payment, _is_repeat(sightings)) > 0
        lost = np.flatnonzero(answered & (counts == 0) & ~unknown)
        firsts = sightings["origin"][np.searchsorted(payment, lost[:EXAMPLES])]
        _, places = self._records.request_places(firsts)
        self._findings.add_all(
            FindingKind.LOST, "has a paymentId without an outcome", len(lost), places
        )

    def _judge_claims(self, sightings: Rows) -> None:
        """Check the sightings of one paymentId that has several outcomes."""
        answered = sightings[sightings["decided_ms"] >= 0]
        is_claim = ~_is_repeat(answered)
        claims = answered[is_claim]
        claims = claims[np.lexsort((claims["origin"], claims["decided_ms"]))]
        for n in range(1, len(claims)):
            claim = claims[n]
            # What was surely decided before it.
            before = answered["decided_ms"] < claim["decided_ms"]
            earlier = np.concatenate([answered[before], claims[:n]])
            # They were seen when they were read, however early they are stamped.
            read_ms = np.where(
                earlier["decided_ms"] < 0, 0, earlier["decided_ms"] - self._times.decides_within_ms
            )
            seen_ms = int(np.maximum(earlier["time_ms"], read_ms).max())
            forgotten_ms = seen_ms + self._times.window_ms
            if claim["required"] and int(claim["high_ms"]) <= forgotten_ms:
                _, places = self._records.request_places(claims["origin"][n : n + 1])
                text = "has another outcome for its paymentId, within DEDUPE_WINDOW"
                self._findings.add_all(FindingKind.DOUBLED, text, 1, places)
        self._judge_stale(answered[~is_claim], claims)

    def _judge_waiting(self, sightings: Rows) -> None:
        """Check that a payment which waits for the gateway has no other outcome within the window.

        An id does not leave the window while it waits.
        """
        waits = sightings["verdict"] == rows.PENDING
        since_ms = int(sightings["time_ms"][waits].min(initial=np.iinfo(np.int64).max))
        others = sightings[_is_first(sightings) & ~waits & (sightings["decided_ms"] > since_ms)]
        if waits.any() and len(others):
            places = self._records.request_places(others["origin"])
            text = "has an outcome, though an earlier request for its paymentId still waits"
            self._findings.add_all(FindingKind.DOUBLED, text, *places)

    def _judge_stale(self, repeats: Rows, claims: Rows) -> None:
        """Check that a repeat names the latest claim, not one that was forgotten before."""
        for repeat in repeats:
            [named] = np.flatnonzero(claims["origin"] == repeat["first"])[:1].tolist() or [None]
            if named is None:
                continue
            between = claims["decided_ms"] > claims["decided_ms"][named]
            between &= claims["decided_ms"] < repeat["decided_ms"]
            if between.any():
                text = "names a first record that another had followed"
                self._audit(
                    FindingKind.VERDICT, text, repeats[repeats["origin"] == repeat["origin"]]
                )

    def _audit(self, kind: FindingKind, text: str, sightings: Rows) -> None:
        places = [self._records.audit_place(each) for each in sightings[:EXAMPLES]]
        self._findings.add_all(kind, text, len(sightings), places)


def _is_first(sightings: Rows) -> Mask:
    verdict: NDArray[Any] = sightings["verdict"]
    return np.asarray(
        (verdict == rows.PROCESSED) | (verdict == rows.FAILED) | (verdict == rows.PENDING)
    )


def _is_repeat(sightings: Rows) -> Mask:
    verdict: NDArray[Any] = sightings["verdict"]
    return np.asarray((verdict == rows.DUPLICATE) | (verdict == rows.CONFLICT))


def _distinct(claims: Rows) -> Rows:
    """Return one entry of each claim."""
    claims = claims[np.lexsort([claims[name] for name in _CLAIM])]
    first = np.ones(len(claims), np.bool_)
    first[1:] = np.logical_or.reduce([claims[name][1:] != claims[name][:-1] for name in _CLAIM])
    return claims[first]


def _other_key(sightings: Rows) -> Mask:
    """Return whether each of sorted sightings but the first has another key than the one before."""
    before, after = sightings[:-1], sightings[1:]
    return np.asarray(
        (before["key_high"] != after["key_high"]) | (before["key_low"] != after["key_low"])
    )


def _find(
    sightings: Rows,
    payment: NDArray[np.int64],
    mine: NDArray[np.int64],
    origins: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Return where the sighting of a payment at an origin is; -1 where there is none."""
    order = np.argsort(sightings["origin"])
    sorted_origins = sightings["origin"][order]
    at = np.minimum(np.searchsorted(sorted_origins, origins), len(order) - 1)
    found = order[at]
    hit = (sightings["origin"][found] == origins) & (payment[found] == mine)
    return np.where(hit, found, -1)
