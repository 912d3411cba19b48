"""The course of a rotation: looks, checks, and a restart; with a clock of its own."""

import pytest

from dataflow.core.rotation import Action, Rotation

OLD, NEW, NEWER = {"A": "1", "B": "1"}, {"A": "2", "B": "1"}, {"A": "2", "B": "2"}
DELAY_S, EVERY_S = 90.0, 60.0


@pytest.fixture
def rotation() -> Rotation:
    return Rotation(OLD, delay_s=DELAY_S, check_every_s=EVERY_S)


def test_nothing_happens_without_a_change(rotation: Rotation) -> None:
    assert {rotation.look(dict(OLD), now_s) for now_s in range(1000)} == {Action.WAIT}
    assert rotation.changed == []


def test_a_change_is_checked_once_two_looks_have_found_the_same(rotation: Rotation) -> None:
    assert rotation.look(NEW, 0) is Action.WAIT
    assert rotation.look(NEWER, 10) is Action.WAIT
    assert rotation.look(NEWER, 20) is Action.CHECK
    assert rotation.changed == ["A", "B"]


def test_secrets_that_hold_are_taken_over_after_the_delay(rotation: Rotation) -> None:
    rotation.look(NEW, 0)
    assert rotation.look(NEW, 10) is Action.CHECK
    rotation.checked(None, 10)
    assert rotation.look(NEW, 10 + DELAY_S - 1) is Action.WAIT
    assert rotation.look(NEW, 10 + DELAY_S) is Action.RESTART
    assert rotation.changed == ["A"]


def test_another_change_during_the_delay_is_checked_for_itself(rotation: Rotation) -> None:
    rotation.look(NEW, 0)
    rotation.look(NEW, 10)
    rotation.checked(None, 10)
    assert rotation.look(NEWER, 20) is Action.WAIT
    assert rotation.look(NEWER, 500) is Action.CHECK
    rotation.checked(None, 500)
    assert rotation.look(NEWER, 510) is Action.WAIT


def test_secrets_that_do_not_hold_are_checked_again_and_never_taken_over(
    rotation: Rotation,
) -> None:
    rotation.look(NEW, 0)
    assert rotation.look(NEW, 10) is Action.CHECK
    rotation.checked("refused", 10)
    assert f"{rotation.problem}" == "refused"
    assert rotation.look(NEW, 10 + EVERY_S - 1) is Action.WAIT
    assert rotation.look(NEW, 10 + EVERY_S) is Action.CHECK
    rotation.checked("refused", 10 + EVERY_S)
    assert rotation.look(NEW, 11 + EVERY_S) is Action.WAIT
    assert rotation.look(NEW, 10_000) is Action.CHECK
    rotation.checked(None, 10_000)
    assert not rotation.problem
    assert rotation.look(NEW, 10_000 + DELAY_S) is Action.RESTART


def test_a_change_that_is_taken_back_is_none(rotation: Rotation) -> None:
    rotation.look(NEW, 0)
    rotation.look(NEW, 10)
    rotation.checked("refused", 10)
    rotation.look(OLD, 20)
    assert rotation.look(OLD, 30) is Action.WAIT
    assert rotation.problem is None
    assert rotation.changed == []
    assert rotation.look(OLD, 10_000) is Action.WAIT


def test_a_file_that_disappears_is_a_change(rotation: Rotation) -> None:
    gone = {"A": "1", "B": ""}
    rotation.look(gone, 0)
    assert rotation.look(gone, 10) is Action.CHECK
    assert rotation.changed == ["B"]
