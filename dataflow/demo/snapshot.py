"""The state of a demo at one moment; views show it, and depend on nothing else."""

from collections import deque
from typing import NamedTuple, Protocol, Self

from dataflow.demo.accounts import Totals

_WINDOW_S = 5.0


class DemoAddresses(NamedTuple):
    """The addresses of everything; the same from the first moment to the last."""

    broker: str
    probes_url: str
    metrics_url: str
    log_path: str


class Snapshot(NamedTuple):
    """One moment."""

    elapsed_s: float
    state: str
    """Of the flow: starting, ready, draining, ended; or what `/health` calls its trouble."""
    doing: str
    """The current activity of the demo."""
    totals: Totals
    sent_rate: float
    audited_rate: float
    """Both per second, over the last few of them."""
    lags: dict[int, int]
    """By partition: requests whose outcome is not committed. Missing as long as it is unknown."""
    provider: str = ""
    """The state of the payment provider, if there is one."""


class View(Protocol):
    """A view that shows snapshots, one after the other."""

    def __enter__(self) -> Self:
        """Take the terminal."""
        ...

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Show this one now, or not at all: there will be another."""
        ...


class Rate:
    """The recent growth of a count."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def at(self, now_s: float, count: int) -> float:
        """Return the growth per second, now that the count is `count`."""
        self._points.append((now_s, count))
        while now_s - self._points[0][0] > _WINDOW_S:
            self._points.popleft()
        began_s, before = self._points[0]
        return (count - before) / (now_s - began_s) if now_s > began_s else 0.0


def printable(text: str) -> str:
    """Return the text, safe to print: no text that was sent may steer the terminal."""
    return "".join(char if char.isprintable() else "\N{MIDDLE DOT}" for char in text)
