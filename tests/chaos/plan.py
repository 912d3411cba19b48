"""The faults that strike which scenes, and their order: all of it follows from the seed."""

from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import NamedTuple

from tests.chaos import inputs, kills, outages, rivals, stops, stores
from tests.chaos.catalogue import FAULTS, Fault, Stage
from tests.chaos.shapes import Shape

MODULES = (kills, stops, rivals, stores, inputs, outages)
"""Those that fill the catalogue."""
_AT_ANY_MOMENT = 5
"""The number of times in each scene: these find what nobody has thought of."""
_FIRST = ("first open", "first commit")


class Part(NamedTuple):
    """One scene, and what strikes it."""

    name: str
    stage: Stage
    shape: Shape
    faults: list[Fault]
    rng: Random


def endless(stage: Stage, seed: int, shapes: Sequence[Shape]) -> Iterator[Part]:
    """Yield scenes that have every fault of a stage, over and over."""
    for number in count():
        rng = Random(f"{seed}/{stage.name}/{number}")
        chosen = [
            fault
            for place, fault in enumerate(FAULTS)
            if fault.stage is stage
            and fault.point not in _FIRST
            and (number + place) % fault.every == 0
        ]
        if stage is Stage.ANY:
            chosen += _named("SIGKILL at any moment") * (_AT_ANY_MOMENT - 1)
        rng.shuffle(chosen)
        if stage is Stage.ANY:
            chosen = [_point(_FIRST[number % 2]), *chosen]
        shape = shapes[number % len(shapes)]
        yield Part(f"{stage.name.lower()}-{number}", stage, shape, chosen, rng)


_SHORT_TOO = (
    "SIGTERM under load",
    "another number of lanes",
    "SIGSTOP in a transaction, another run takes over, then SIGCONT",
    "recovery directory deleted",
    "recovery directory restored from an old copy",
    "SIGKILL at any moment",
)


def short(seed: int, shapes: Sequence[Shape]) -> list[Part]:
    """Return every named point once, and a few others, in scenes that take about as long."""
    rng = Random(f"{seed}/short")
    rest = [
        fault
        for fault in FAULTS
        if fault.stage is Stage.ANY
        and fault.point not in _FIRST
        and (fault.point or fault.name in _SHORT_TOO)
    ]
    rng.shuffle(rest)
    return [
        Part(
            f"short-{number}",
            Stage.ANY,
            shape,
            [_point(_FIRST[number % 2]), *rest[number :: len(shapes)]],
            Random(f"{seed}/short/{number}"),
        )
        for number, shape in enumerate(shapes)
    ]


def _point(name: str) -> Fault:
    [found] = [fault for fault in FAULTS if fault.point == name]
    return found


def _named(name: str) -> list[Fault]:
    return [fault for fault in FAULTS if fault.name == name]
