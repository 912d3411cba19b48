"""A demo as lines of text: for pipes, logs, and its end."""

from collections.abc import Callable, Iterator
from typing import Self, TextIO

from dataflow.demo.accounts import Totals
from dataflow.demo.snapshot import Snapshot
from dataflow.demo.traffic import KINDS, Outcome
from schemas.outcomes import EventType

_EVERY_S = 3.0


class PlainView:
    """A quiet line every few seconds, and at each change of state."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown_s = -_EVERY_S
        self._doing = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        """Write a line, if it is time for one."""
        due = snapshot.elapsed_s - self._shown_s >= _EVERY_S
        if due or snapshot.doing != self._doing:
            self._shown_s, self._doing = snapshot.elapsed_s, snapshot.doing
            self._out.write(line(snapshot) + "\n")
            self._out.flush()


def line(snapshot: Snapshot) -> str:
    """Return one moment in one line."""
    totals = snapshot.totals
    counts = ", ".join(f"{count} {name}" for name, count in by_type(totals).items())
    provider = f"; provider {snapshot.provider}" if snapshot.provider else ""
    return (
        f"{snapshot.elapsed_s:5.1f} s  {snapshot.state:8}  sent {totals.sent_total}"
        f" ({snapshot.sent_rate:.0f}/s)  audited {totals.audited_total}"
        f" ({snapshot.audited_rate:.0f}/s): {counts}; lag {lag(snapshot)}{provider};"
        f" {snapshot.doing}"
    )


def lag(snapshot: Snapshot) -> str:
    """Return the lag over all partitions."""
    return f"{sum(snapshot.lags.values()):,}" if snapshot.lags else "unknown"


def by_type(totals: Totals) -> dict[str, int]:
    """Return the number of events of each type, by its short name."""
    counts = {event_type.removeprefix("payment."): 0 for event_type in EventType}
    for outcome, count in totals.audited.items():
        counts[outcome.event_type.removeprefix("payment.")] += count
    return counts


def name(outcome: Outcome) -> str:
    """Return an outcome in words."""
    short = outcome.event_type.removeprefix("payment.")
    return f"{short}: {outcome.code}" if outcome.code else short


def summary(totals: Totals) -> str:
    """Return the whole demo: what was sent, what was audited, and whether they agree."""
    return "\n".join(_summary(totals)) + "\n"


def _summary(totals: Totals) -> Iterator[str]:
    row: Callable[..., str] = "{:29}{:>9}  {:29}{:>9}".format
    yield row("requests", "sent", "outcome", "audited")
    yield "-" * 78
    left = dict(totals.audited)
    for kind in KINDS:
        sent, audited = totals.sent.get(kind, 0), left.pop(kind.outcome, 0)
        yield row(kind.name, sent, name(kind.outcome), audited)
    for outcome, count in left.items():
        yield row("", "", name(outcome), count)
    yield "-" * 78
    yield row("total", totals.sent_total, "", totals.audited_total)
    yield ""
    if totals.undelivered:
        yield f"Not taken by the broker, so not counted as sent: {totals.undelivered}."
    if totals.foreign:
        yield f"Audit events for records that this demo did not send: {totals.foreign}."
    wrong = totals.disagreements()
    if wrong:
        yield "DISAGREES: " + "; ".join(wrong) + "."
    else:
        yield "AGREES: each request has exactly one audit event, the one it was made for."
