"""The plan of a campaign: the faults of each scene, and its gateway."""

import json
from itertools import islice
from random import Random

import pytest

from tests.chaos import plan
from tests.chaos.catalogue import FAULTS, Stage
from tests.chaos.kills import IN_COMMIT, POINTS
from tests.chaos.provider import GATEWAYS, HTTP, SIMULATED, STRIPE, payer_of
from tests.chaos.shapes import SHAPES

SHAPES_IN_TURNS = tuple(SHAPES.values())
FIRST_SCENES = 12


@pytest.mark.parametrize("stage", Stage)
def test_every_fault_has_a_place_in_the_first_scenes_by_every_gateway_of_it(stage: Stage) -> None:
    parts = list(islice(plan.endless(stage, 1, SHAPES_IN_TURNS), FIRST_SCENES * 3))
    places = {(fault.name, part.gateway) for part in parts for fault in part.faults}
    wanted = {
        (fault.name, gateway)
        for fault in FAULTS
        if fault.stage is stage
        for gateway in fault.gateways
    }
    assert places == wanted


def test_every_shape_meets_every_gateway() -> None:
    parts = islice(plan.endless(Stage.ANY, 1, SHAPES_IN_TURNS), 36)
    met = {(part.shape, part.gateway) for part in parts}
    assert len(met) == len(SHAPES_IN_TURNS) * len(GATEWAYS)


def test_a_seed_repeats_a_campaign() -> None:
    some, same, other = (
        list(islice(plan.endless(Stage.ANY, seed, SHAPES_IN_TURNS), 6)) for seed in (1, 1, 2)
    )
    assert [part.faults for part in some] == [part.faults for part in same]
    assert [part.faults for part in some] != [part.faults for part in other]


def test_a_fifth_of_the_kills_of_a_scene_are_inside_a_commit() -> None:
    """A whole campaign demands it of all its kills; one of the plan's scenes has them already."""
    assert set(POINTS) > IN_COMMIT
    for part in islice(plan.endless(Stage.ANY, 1, SHAPES_IN_TURNS), FIRST_SCENES):
        kills = [fault for fault in part.faults if "SIGKILL" in fault.name]
        inside = [fault for fault in kills if fault.point in IN_COMMIT]
        assert 5 * len(inside) >= len(kills), part.name


def test_the_short_campaign_has_a_provider_of_each_shape_and_its_faults_where_it_is() -> None:
    parts = plan.short(1, SHAPES_IN_TURNS)
    assert {part.gateway for part in parts} == {SIMULATED, HTTP, STRIPE}
    for part in parts:
        assert all(part.gateway in fault.gateways for fault in part.faults), part.name
    named = {fault.name for part in parts for fault in part.faults}
    assert named >= set(plan._SHORT_WITH_PROVIDER)


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_payers_are_the_same_for_all_copies_and_few_payments_are_odd(gateway: str) -> None:
    rng = Random(1)
    ids = [f"pay-{rng.getrandbits(48)}" for _ in range(2_000)]
    payers = [payer_of(each, gateway) for each in ids]
    assert payers == [payer_of(each, gateway) for each in ids]
    odd = [each for each in payers if each["paymentMethod"] != "pm_card"]
    assert 0.03 < len(odd) / len(ids) < 0.1
    has_payers_who_act = "pm_requires_action" in json.dumps(payers)
    assert has_payers_who_act == (gateway == STRIPE)
