"""Every fault there is, and the end that each of them must come to."""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from tests.chaos.provider import GATEWAYS
from tests.chaos.scene import Scene

Strike = Callable[[Scene], None]
"""Do it to a scene, and see how it ends; raises when that is not what was expected."""


class NotStruckError(Exception):
    """A fault could not be brought about: it does not count, and the scene goes on."""


class Stage(Enum):
    """The Kafka that a fault needs."""

    ANY = "any Kafka"
    REMOTE = "one broker of our own, over a link"
    TRIO = "three brokers of our own"


class Fault(NamedTuple):
    """One way to strike.

    Attributes:
        name: What it is called in tables.
        expected: How it must end.
        strike: Do it, and check that.
        stage: Where it can be done.
        point: The named point that it is about, if any.
        every: In how many of the scenes of its stage it has a place: in each, or in every n-th.
        keeps_store: True if it needs the recovery directory that the run before has left.
        gateways: What the scenes that it has a place in charge by.
    """

    name: str
    expected: str
    strike: Strike
    stage: Stage = Stage.ANY
    point: str | None = None
    every: int = 1
    keeps_store: bool = False
    gateways: tuple[str, ...] = GATEWAYS


FAULTS: list[Fault] = []
"""All of them, in the order of the tables."""


def fault(
    name: str,
    expected: str,
    stage: Stage = Stage.ANY,
    *,
    every: int = 1,
    keeps_store: bool = False,
    gateways: tuple[str, ...] = GATEWAYS,
) -> Callable[[Strike], Strike]:
    """Put a strike into the catalogue."""

    def registered(strike: Strike) -> Strike:
        FAULTS.append(Fault(name, expected, strike, stage, None, every, keeps_store, gateways))
        return strike

    return registered
