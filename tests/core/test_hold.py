"""The hold: probes and trials in an outage, and what the other processes are told."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.breaker import Breaker
from dataflow.core.hold import (
    ANNOUNCED_EVERY_S,
    BELIEVED_FOR_S,
    PROBE_LEAST_S,
    PROBE_MOST_S,
    RELEASED_EVERY_S,
    TRIAL_LEAST_S,
    Held,
    Hold,
    HoldCause,
)


def held() -> tuple[Breaker, Hold]:
    breaker = Breaker()
    breaker.misconfigured("401", 0.0)
    hold = Hold(breaker, 10)
    hold.opened(0.0)
    return breaker, hold


def test_nothing_is_probed_without_an_outage() -> None:
    hold = Hold(Breaker(), 10)
    assert hold.next_probe_s is None
    assert not hold.is_probe_due(1e9)
    assert not hold.is_trial_due(0, 1e9)
    assert not hold.is_held
    assert not hold.is_release_due(1e9)


def state(hold: Hold) -> tuple[bool, bool, float | None]:
    return hold.is_held, hold.is_full, hold.since_s


def test_too_much_that_is_parked_is_a_hold_with_probes() -> None:
    hold = Hold(Breaker(), 10)
    hold.note_parked(9, 0.0)
    assert state(hold) == (False, False, None)
    hold.note_parked(10, 1.0)
    hold.note_parked(11, 2.0)
    assert state(hold) == (True, True, 1.0)
    assert hold.reason == "GATEWAY_PARKED_MAX is 10"
    assert hold.is_probe_due(3.0)
    assert not hold.is_probe_due(3.0)
    assert hold.is_probe_due(3.0 + PROBE_LEAST_S)
    assert not hold.is_trial_due(0, 1e9)
    hold.note_parked(9, 9.0)
    assert state(hold) == (False, False, None)


def test_a_definite_answer_makes_due_what_is_parked_too_much_now_and_then() -> None:
    """Each answer would have those asked for without a pause that never get one."""
    hold = Hold(Breaker(), 10)
    hold.note_parked(10, 0.0)
    assert hold.is_release_due(1.0)
    assert not hold.is_release_due(1.0 + RELEASED_EVERY_S - 0.1)
    assert hold.is_release_due(1.0 + RELEASED_EVERY_S)


def test_an_outage_with_too_much_that_is_parked_is_an_outage() -> None:
    breaker, hold = held()
    hold.note_parked(10, 5.0)
    assert (*state(hold), hold.reason) == (True, False, 0.0, "401")
    assert not hold.is_release_due(6.0)
    breaker.definite(first=True)
    assert state(hold) == (True, True, 5.0)


def test_the_first_probe_and_the_first_trial_come_soon() -> None:
    _, hold = held()
    assert not hold.is_probe_due(PROBE_LEAST_S - 0.1)
    assert hold.is_probe_due(PROBE_LEAST_S)
    assert not hold.is_probe_due(PROBE_LEAST_S)
    assert not hold.is_trial_due(0, TRIAL_LEAST_S - 0.1)
    assert hold.is_trial_due(0, TRIAL_LEAST_S)
    assert not hold.is_trial_due(0, TRIAL_LEAST_S)


@given(st.floats(0, 100_000))
def test_probes_get_rarer_but_never_end(outage_s: float) -> None:
    _, hold = held()
    now_s = max(outage_s, PROBE_LEAST_S)
    assert hold.is_probe_due(now_s)
    assert hold.next_probe_s is not None
    assert now_s + PROBE_LEAST_S <= hold.next_probe_s <= now_s + PROBE_MOST_S


def test_a_source_without_records_takes_no_trial_from_another() -> None:
    _, hold = held()
    for now_s in (TRIAL_LEAST_S, 2 * TRIAL_LEAST_S, 3 * TRIAL_LEAST_S):
        assert hold.is_trial_due(0, now_s)
        assert not hold.is_trial_due(0, now_s)
        assert hold.is_trial_due(1, now_s)


def test_each_outage_has_a_first_trial() -> None:
    _, hold = held()
    assert hold.is_trial_due(0, 86_400.0)
    hold.opened(86_401.0)
    assert not hold.is_trial_due(0, 86_401.0)
    assert hold.is_trial_due(0, 86_401.0 + TRIAL_LEAST_S)


def test_trials_of_a_day_long_outage_do_not_fill_the_pending_topic() -> None:
    _, hold = held()
    trials = sum(hold.is_trial_due(0, float(now_s)) for now_s in range(24 * 3600))
    assert 200 < trials < 500


def test_a_hold_is_announced_again_and_its_end_once() -> None:
    breaker, hold = held()
    assert hold.to_announce(0.0) is True
    assert hold.to_announce(ANNOUNCED_EVERY_S - 0.1) is None
    assert hold.to_announce(ANNOUNCED_EVERY_S) is True
    breaker.definite(first=True)
    assert hold.to_announce(ANNOUNCED_EVERY_S) is False
    assert hold.to_announce(ANNOUNCED_EVERY_S) is None


def test_the_hold_of_another_process_ends_with_it() -> None:
    hold = Hold(Breaker(), 10)
    hold.peer(3, 0.0, holds=True)
    assert hold.is_held_by_others(BELIEVED_FOR_S - 0.1)
    assert not hold.is_held_by_others(BELIEVED_FOR_S)
    hold.peer(3, 5.0, holds=True)
    hold.peer(3, 5.1, holds=False)
    assert not hold.is_held_by_others(5.2)


def test_a_hold_has_the_cause_of_its_breaker_and_counts_from_there() -> None:
    breaker, hold = held()
    hold.peer(3, 1e9, holds=True)
    assert hold.held(50.0) == Held(HoldCause.MISCONFIGURED, 0.0, "401")
    breaker.indefinite("no answer", 60.0, first=False)
    hold.note_parked(10, 65.0)
    assert hold.held(70.0) == Held(HoldCause.OUTAGE, 0.0, "no answer")
    breaker.definite(first=False)
    assert hold.held(80.0) == Held(HoldCause.PARKED, 65.0, "GATEWAY_PARKED_MAX is 10")


def test_a_hold_of_others_counts_from_the_first_of_them() -> None:
    hold = Hold(Breaker(), 10)
    assert hold.held(1.0) is None
    hold.peer(3, 2.0, holds=True)
    hold.peer(3, 3.0, holds=True)
    hold.peer(4, 4.0, holds=True)
    hold.peer(3, 5.0, holds=False)
    assert hold.held(5.0) == Held(HoldCause.PEER, 2.0, "another process of the cluster holds")
    assert hold.held(4.0 + BELIEVED_FOR_S) is None
    hold.peer(3, 9.0, holds=True)
    assert hold.held(9.0) == Held(HoldCause.PEER, 9.0, "another process of the cluster holds")
