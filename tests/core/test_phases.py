"""The table of a partition's phases, and the way through it."""

import pytest

from dataflow.core.fenced import Fenced
from dataflow.core.phases import RULES, Emission, Phase, PhaseSequence


def at(phase: Phase) -> PhaseSequence:
    """Return a sequence that has come to a phase."""
    phases = PhaseSequence()
    while phases.phase is not phase:
        assert phases.stop() or (phases.emit() and phases.epoch_closed())
    return phases


def test_a_run_emits_the_signals_of_its_start_then_records_then_its_end() -> None:
    phases = PhaseSequence()
    emitted = []
    for _ in range(4):
        emitted.append(phases.emit())
        phases.epoch_closed()
    assert phases.stop()
    for _ in range(3):
        emitted.append(phases.emit())
        phases.epoch_closed()
    assert emitted == [
        Emission.OPEN,
        Emission.RESTORE,
        Emission.RECORDS,
        Emission.RECORDS,
        Emission.STOP,
        Emission.END,
        Emission.END,
    ]


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.RESTORE, Phase.DRAINING])
def test_a_signal_is_emitted_once_until_its_epoch_is_closed(phase: Phase) -> None:
    """Records behind it would be decided by lanes that have not acted on it."""
    phases = at(phase)
    assert phases.emit() is RULES[phase].emits
    assert [phases.emit(), phases.emit()] == [Emission.NOTHING] * 2
    assert phases.epoch_closed()
    assert phases.phase is RULES[phase].when_closed
    assert phases.emit() is not Emission.NOTHING


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.RESTORE, Phase.DRAINING])
def test_an_epoch_that_closes_without_the_signal_ends_no_phase(phase: Phase) -> None:
    phases = at(phase)
    assert not phases.epoch_closed()
    assert phases.phase is phase


@pytest.mark.parametrize("phase", [Phase.LIVE, Phase.DRAINED])
def test_a_phase_that_none_follows_goes_on(phase: Phase) -> None:
    phases = at(phase)
    for _ in range(3):
        assert phases.emit() is RULES[phase].emits
        assert not phases.epoch_closed()


@pytest.mark.parametrize("phase", Phase)
def test_a_stop_only_ends_the_reading_of_records(phase: Phase) -> None:
    phases = at(phase)
    assert phases.stop() is (phase is Phase.LIVE)
    assert phases.phase is (Phase.DRAINING if phase is Phase.LIVE else phase)


def test_every_phase_has_a_row_and_leads_to_the_end() -> None:
    assert RULES.keys() == set(Phase)
    for phase in Phase:
        assert at(phase).phase is phase
        seen = {phase}
        while following := RULES[phase].when_closed or RULES[phase].when_stopping:
            assert following not in seen
            seen.add(following)
            phase = following  # noqa: PLW2901  (the walk from there on)
        assert phase is Phase.DRAINED


def test_offsets_of_earlier_runs_are_read_once_these_are_fenced() -> None:
    """While lanes open, an earlier run may still commit more."""
    with pytest.raises(RuntimeError, match="an earlier run may still commit"):
        at(Phase.OPEN).fenced()
    for phase in set(Phase) - {Phase.OPEN}:
        assert at(phase).fenced() == Fenced()
