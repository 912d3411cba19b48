"""The payment provider of a scene: none, or the fake one, with its everyday faults.

The fake keeps its book in a file, so that it outlives SIGKILL of either side. A day is shorter
here: it keeps keys for `KEY_LIFE_S`, never for less, and the flow posts for `POSTS_FOR_S`. What is
in between is for calls under way, and for a process that was suspended in the midst of one.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import msgspec

from dataflow.fake_provider.behaviour import Fault, FaultRule, Settings
from dataflow.fake_provider.process import FakeProvider
from tests.support.hooks.tuning import KEY_MARGIN_S, PARKED_UNIT_S, Constant

SIMULATED, HTTP, STRIPE = "simulated", "http", "stripe"
GATEWAYS = (SIMULATED, HTTP, STRIPE)
"""The gateways of the scenes, in turns. Only the first has no book."""

KEY_LIFE_S = 90.0
POSTS_FOR_S = 6.0
RATE_SHARE = 1 / 3
"""Of the requests of other scenes: each charge is a call, which flow and fake have to pay for."""
TIMEOUT_S = 2.0
"""Of a call. A key that expires within `POSTS_FOR_S` and this would be charged again."""
_DAY_S = 24 * 3600.0
"""The life of a key, as both gateways state it."""
_USUAL: Mapping[str, Any] = msgspec.to_builtins(
    Settings(latency_s=0.02, key_life_s=KEY_LIFE_S, hang_s=3 * TIMEOUT_S, finish_after_s=0.5)
)
TUNED: Mapping[Constant, float] = {KEY_MARGIN_S: _DAY_S - POSTS_FOR_S, PARKED_UNIT_S: 0.01}
"""A parked payment is asked for again after 10 ms at first, and after 7 s at most."""

EVERYDAY: Mapping[Fault, float] = {
    Fault.RESET_BEFORE: 0.005,
    Fault.UNAVAILABLE: 0.005,
    Fault.HTML_BEFORE: 0.002,
    Fault.HANG_BEFORE: 0.001,
    Fault.UNSAVED_500_BEFORE: 0.002,
    Fault.SAVED_500_BEFORE: 0.0005,
    Fault.RESET_AFTER: 0.01,
    Fault.HALF_A_BODY: 0.003,
    Fault.HTML_AFTER: 0.002,
    Fault.HANG_AFTER: 0.001,
    Fault.SAVED_500_AFTER: 0.002,
    Fault.SAVED_500_LATE: 0.001,
}
"""The share of the charges that each happens to, always."""

_ODD_METHODS = (
    "pm_decline_insufficient_funds",
    "pm_decline_expired_card",
    "pm_processing",
    "pm_processing_decline",
    "pm_acts_late",
    "pm_missing",
)
_OF_STRIPE = ("pm_requires_action",)
"""Elsewhere such a payment waits for its payer for ever."""
_USERS = 499
"""Stripe's look-up reads the list of one customer: it must not get too long."""


def payer_of(payment_id: str, gateway: str) -> dict[str, str]:
    """Return who pays for a payment, and how: the same for all its copies."""
    number = crc32(payment_id.encode())
    odd = (*_ODD_METHODS, *_OF_STRIPE) if gateway == STRIPE else _ODD_METHODS
    method = dict(enumerate(odd)).get(number % 100, "pm_card")
    return {"userId": f"cus_{number % _USERS}", "paymentMethod": method}


class Provider(FakeProvider):
    """The fake one, for one scene.

    Args:
        directory: Where its book is.
        gateway: The shape that the flow asks it in.
    """

    def __init__(self, directory: Path, gateway: str) -> None:
        super().__init__(directory / "provider.sqlite")
        self._gateway = gateway
        self._everyday = [FaultRule(fault, share) for fault, share in EVERYDAY.items()]
        self._poison: list[FaultRule] = []

    def __enter__(self) -> Self:
        self.start()
        self.change(**_USUAL)
        self.as_usual()
        return self

    def environ(self) -> dict[str, str]:
        """Return the settings of a flow that charges there."""
        found = {"GATEWAY": self._gateway, "GATEWAY_TIMEOUT": f"{TIMEOUT_S:g}s"}
        if self._gateway == STRIPE:
            return found | {"STRIPE_URL": self.url, "STRIPE_API_KEY": Settings().secret}
        return found | {
            "HTTP_GATEWAY_URL": self.url,
            "HTTP_GATEWAY_CREDENTIALS": Settings().secret,
        }

    def poison(self, payment_ids: Iterable[str], fault: Fault, times: int | None = None) -> None:
        """Fail for these payments, each so many times; None for as long as `cure` is not called."""
        self._poison += [FaultRule(fault, payment_ids=[each], times=times) for each in payment_ids]
        self.as_usual()

    def cure(self) -> None:
        """Fail for nobody in particular any more."""
        self._poison = []
        self.as_usual()

    def as_usual(self) -> None:
        """Have the everyday faults, and those of certain payments."""
        self._fail([*self._poison, *self._everyday])

    def without_faults(self) -> None:
        """Answer everything."""
        self._poison, self._everyday = [], []
        self._fail([])

    @contextmanager
    def failing(self, fault: Fault, share: float = 1.0) -> Iterator[None]:
        """Fail for everybody, or for a share of them, meanwhile."""
        self._fail([*self._poison, FaultRule(fault, share), *self._everyday])
        try:
            yield
        finally:
            self.as_usual()

    @contextmanager
    def changed(self, **settings: Any) -> Iterator[None]:
        """Have other settings meanwhile: see `behaviour.Settings`."""
        self.change(**settings)
        try:
            yield
        finally:
            self.change(**{name: _USUAL[name] for name in settings})

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections meanwhile."""
        self.outage(_DAY_S)
        try:
            yield
        finally:
            self.end_outage()

    def _fail(self, rules: list[FaultRule]) -> None:
        self.change(faults=msgspec.to_builtins(rules))
