"""The faults that strike which scenes, and their order: all of it follows from the seed."""

from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import NamedTuple

from tests.chaos import (
    inputs,
    kills,
    lane_logs,
    outages,
    provider_faults,
    rivals,
    stops,
    stores,
)
from tests.chaos.catalogue import FAULTS, Fault, Stage
from tests.chaos.provider import GATEWAYS, HTTP, SIMULATED, STRIPE
from tests.chaos.shapes import Shape

MODULES = (kills, stops, rivals, stores, lane_logs, inputs, provider_faults, outages)
"""Those that fill the catalogue."""
_AT_ANY_MOMENT = 5
"""The number of times in each scene: these find what nobody has thought of."""
_FIRST = ("first open", "first commit")


class Part(NamedTuple):
    """One scene, and what strikes it."""

    name: str
    stage: Stage
    shape: Shape
    gateway: str
    faults: list[Fault]
    rng: Random


def endless(stage: Stage, seed: int, shapes: Sequence[Shape]) -> Iterator[Part]:
    """Yield scenes that have every fault of a stage, over and over."""
    for number in count():
        rng = Random(f"{seed}/{stage.name}/{number}")
        # Once through, and the next time one further on: otherwise a fault that has a place in
        # every third scene would always meet the same gateway.
        gateway = GATEWAYS[(number + number // len(GATEWAYS)) % len(GATEWAYS)]
        chosen = [
            fault
            for place, fault in enumerate(FAULTS)
            if fault.stage is stage
            and fault.point not in _FIRST
            and gateway in fault.gateways
            and (number + place) % fault.every == 0
        ]
        if stage is Stage.ANY:
            chosen += _named("SIGKILL at any moment") * (_AT_ANY_MOMENT - 1)
        rng.shuffle(chosen)
        if stage is Stage.ANY:
            chosen = [_point(_FIRST[number % 2]), *chosen]
        shape = shapes[number % len(shapes)]
        yield Part(f"{stage.name.lower()}-{number}", stage, shape, gateway, chosen, rng)


_SHORT_TOO = (
    "SIGTERM under load",
    "another number of lanes",
    "SIGSTOP in a transaction, another run takes over, then SIGCONT",
    "recovery directory deleted",
    "recovery directory restored from an old copy",
    "SIGKILL at any moment",
)
_SHORT_WITH_PROVIDER = (
    "provider refuses connections",
    "SIGKILL of the flow while the provider fails, or is killed",
)
_SHORT_GATEWAYS = (HTTP, SIMULATED, STRIPE, SIMULATED)
"""By the scene's number."""


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
    parts = []
    for number, shape in enumerate(shapes):
        gateway = _SHORT_GATEWAYS[number % len(_SHORT_GATEWAYS)]
        chosen = [_point(_FIRST[number % 2]), *rest[number :: len(shapes)]]
        if gateway != SIMULATED:
            at = number // 2 % len(_SHORT_WITH_PROVIDER)
            chosen += _named(_SHORT_WITH_PROVIDER[at])
        scene = Random(f"{seed}/short/{number}")
        parts.append(Part(f"short-{number}", Stage.ANY, shape, gateway, chosen, scene))
    return parts


def _point(name: str) -> Fault:
    [found] = [fault for fault in FAULTS if fault.point == name]
    return found


def _named(name: str) -> list[Fault]:
    return [fault for fault in FAULTS if fault.name == name]
