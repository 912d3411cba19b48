"""The faults that count in a campaign: those that could be brought about."""

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.chaos.campaign import Campaign, Options
from tests.chaos.catalogue import Fault, NotStruckError
from tests.chaos.scene import Scene
from tests.chaos.shapes import Shape


class StubScene(SimpleNamespace):
    """As much of a scene as a strike needs."""

    def __init__(self) -> None:
        super().__init__(shape=Shape(), gateway="simulated", keeps_store=False, hits=Counter())
        self.kills = self.runs = self.faults = self.without_store = 0

    def supervised(self, what: Callable[[], None]) -> None:
        what()


def struck(strike: Callable[[Any], None]) -> Campaign:
    campaign = Campaign(Options(seed=1))
    scene: Any = StubScene()
    campaign._strike(scene, Fault("a fault", "carries on", strike))
    return campaign


def kill(scene: Scene) -> None:
    scene.kills += 1


def test_a_fault_that_has_come_to_its_end_counts() -> None:
    result = struck(kill).result
    assert (result.struck["a fault"], result.kills) == (1, 1)


def test_a_fault_that_could_not_be_brought_about_does_not_count() -> None:
    """So a campaign in which it never could be lacks it; the scene goes on, and is checked."""

    def in_vain(scene: Scene) -> None:
        kill(scene)
        raise NotStruckError

    campaign = struck(in_vain)
    assert (campaign.result.struck["a fault"], campaign.result.kills) == (0, 1)
    assert campaign.result.problems == []
