"""The payment provider of a demo: the fake one, which is away for a few seconds again and again."""

from pathlib import Path
from typing import Self

from dataflow.fake_provider.behaviour import Settings
from dataflow.fake_provider.process import FakeProvider

FIRST_OUTAGE_S = 5.0
"""The time from the first request to the first outage."""
_EVERY_S = 25.0
OUTAGE_S = 5.0
_LATENCY_S = 0.03


class DemoProvider:
    """A provider in a process of its own, and its outages.

    Args:
        directory: Where its book is.
    """

    def __init__(self, directory: Path) -> None:
        self._fake = FakeProvider(directory / "provider.sqlite")
        self._next_outage_s: float | None = None
        self._away_until_s = 0.0

    def __enter__(self) -> Self:
        self._fake.start()
        self._fake.change(latency_s=_LATENCY_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._fake.stop()

    def environ(self) -> dict[str, str]:
        """Return the settings of a flow that charges there."""
        return {
            "GATEWAY": "http",
            "HTTP_GATEWAY_URL": self._fake.url,
            "HTTP_GATEWAY_CREDENTIALS": Settings().secret,
        }

    def at(self, elapsed_s: float, *, may_fail: bool) -> str:
        """Begin an outage, if one is due; return the state of the provider in words."""
        if may_fail and self._next_outage_s is None:
            self._next_outage_s = elapsed_s + FIRST_OUTAGE_S
        if may_fail and self._next_outage_s is not None and elapsed_s >= self._next_outage_s:
            self._fake.outage(OUTAGE_S)
            self._away_until_s = elapsed_s + OUTAGE_S
            self._next_outage_s = elapsed_s + _EVERY_S
        if elapsed_s < self._away_until_s:
            return f"refuses connections for {self._away_until_s - elapsed_s:.0f} s"
        return f"answers; has charged {self._fake.count('succeeded'):,} payments"
