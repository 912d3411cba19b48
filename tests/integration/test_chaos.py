"""The short campaign; and that the list of mutations is honest."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests import ROOT
from tests.chaos import kills, mutants
from tests.chaos.campaign import STAGES, Campaign, Options
from tests.chaos.catalogue import FAULTS, Stage
from tests.chaos.provider import GATEWAYS
from tests.chaos.shapes import SHAPES
from tests.support.hooks.crash_points import POINTS
from tests.support.hooks.mutations import MUTATIONS
from tests.support.kafka import Cluster

SEED = 1


@pytest.fixture
def kafka() -> Iterator[Cluster]:
    """Yield the Kafka of a campaign, not taken for dead while the processors are all busy."""
    external = os.environ.get("KAFKA_TEST_BROKERS")
    with nullcontext(Cluster(external)) if external else STAGES[Stage.ANY]() as kafka:
        yield kafka


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_short_campaign(kafka: Cluster, tmp_path: Path) -> None:
    """Every named point is hit, in every shape something, under load, side by side.

    Two of the scenes charge at a provider, whose book agrees with the topics.
    """
    options = Options(SEED, minutes=8, shapes=tuple(SHAPES.values()), short=True)
    result = Campaign(options, kafka, tmp_path / "campaign").run()
    assert not result.problems, "\n\n".join(result.problems)
    assert result.missing == []
    assert all(result.by_shape[str(shape)] for shape in SHAPES.values())
    assert all(result.by_gateway[gateway] for gateway in GATEWAYS)
    assert result.counts["charges"] > 0
    assert 0 < result.without_store < result.restarts


def test_every_named_point_is_struck() -> None:
    assert set(kills.POINTS) == set(POINTS)
    assert {fault.point for fault in FAULTS} >= set(POINTS)


def test_names_of_faults_are_their_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)


def test_every_mutation_has_a_test_that_fails_for_it() -> None:
    """`make mutants` shows that it does."""
    assert set(mutants.KILLERS) == set(MUTATIONS)
    assert set(mutants.SLOW) < set(MUTATIONS)


def test_those_tests_exist(request: pytest.FixtureRequest) -> None:
    """Those that this run has not collected are collected by another one: it takes seconds."""
    collected = [item.nodeid for item in request.session.items]
    left = without(sorted(set(mutants.KILLERS.values())), collected)
    assert not left or without(left, collect(left)) == []


def without(tests: list[str], found: list[str]) -> list[str]:
    """Return the tests that are not among those that were found, with any parameters."""
    known = {*found, *(each.partition("[")[0] for each in found)}
    return [test for test in tests if test not in known]


def collect(tests: list[str]) -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    # Options of the developer's shell would change what is printed.
    environ = os.environ | {"PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [*command, *tests],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


APPLY_EACH = """
import os
from tests.support.hooks.mutations import MUTATIONS, DISPENSABLE
for name, take_away in (MUTATIONS | DISPENSABLE).items():
    if os.fork() == 0:
        take_away()
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


def test_every_mutation_finds_its_target() -> None:
    """A mutation replaces only what is still there."""
    done = subprocess.run(
        [sys.executable, "-c", APPLY_EACH],
        env=mutants.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
