"""The calculator: what it answers follows from the figures, and never contradicts the settings."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from dataflow.config.settings import Settings
from dataflow.core.lanes import MAX_LANES
from dataflow.kafka import commit_pool
from dataflow.scaling import costs as figures
from dataflow.scaling.command import lines
from dataflow.scaling.costs import MEANING, Costs
from dataflow.scaling.plan import BUSY, MOST_LANES, Wish, plan
from dataflow.scaling.simulate import Setup, simulate, utilisation
from tests.explore import examples
from tests.support.required import REQUIRED


def wish(rate: float = 1_000, **changes: float) -> Wish:
    asked = Wish(rate=rate, average=rate, memory_bytes=64e9, window_s=3_600, latency_s=2)
    return structs.replace(asked, **changes)


def test_each_cost_has_a_meaning_and_no_other_has() -> None:
    assert set(MEANING) == {each.name for each in structs.fields(Costs)}


class TestSimulation:
    def test_equal_questions_have_equal_answers(self) -> None:
        setup = Setup(1_000, 1, 8, 1.0)
        assert simulate(Costs(), setup) == simulate(Costs(), setup)

    def test_a_request_waits_for_half_of_an_interval(self) -> None:
        waits = simulate(Costs(), Setup(1_000, 1, 8, 1.0))
        assert 0.5 < waits.p50_s < 0.65
        assert 1.0 < waits.p99_s < 1.3
        assert waits.cycle_s == pytest.approx(1.0, abs=0.001)

    def test_it_waits_for_a_commit_in_a_short_interval(self) -> None:
        waits = simulate(Costs(), Setup(1_000, 1, 2, 0.01))
        assert waits.p50_s < 4 * (Costs().commit_s + Costs().store_s)

    def test_free_commits_leave_only_the_interval(self) -> None:
        """Then the wait is uniform over the interval, which can be calculated exactly."""
        free = Costs(commit_s=1e-9, store_s=0, commit_spread=0, cpu_us=1e-9)
        waits = simulate(free, Setup(1_000, 1, 8, 0.5))
        assert waits.cycle_s == pytest.approx(0.5, abs=0.001)
        assert waits.p50_s == pytest.approx(0.25, abs=0.01)
        assert waits.p99_s == pytest.approx(0.495, abs=0.01)

    def test_epochs_that_close_late_follow_each_other_at_once(self) -> None:
        late = Costs(commit_s=0.3, store_s=0.05, commit_spread=1e-9)
        assert simulate(late, Setup(100, 1, 8, 0.1)).cycle_s == pytest.approx(0.35, abs=0.01)

    def test_more_lanes_than_commit_at_once_take_turns(self) -> None:
        one, two = (simulate(Costs(), Setup(100, 1, lanes, 0.01)).cycle_s for lanes in (16, 64))
        assert two > 1.5 * one

    def test_a_worker_that_is_too_slow_never_answers(self) -> None:
        assert simulate(Costs(), Setup(1e6, 1, 8, 1.0)).p99_s == math.inf


class TestPlan:
    def test_a_small_rate_needs_one_process(self) -> None:
        found = plan(wish(1_000))
        assert (found.cells, found.processes, found.partitions, found.lanes) == (1, 1, 3, 4)
        assert found.interval_s == 1.0

    def test_the_defaults_are_the_answer_for_the_default_latency(self) -> None:
        found = plan(wish(5_000, latency_s=0.2))
        given = Settings.from_env(REQUIRED)
        assert (found.interval_s, found.lanes) == (given.commit_interval_s, given.lanes)
        assert found.meets

    def test_a_hurried_reader_gets_a_short_interval_and_few_lanes(self) -> None:
        found = plan(wish(latency_s=0.12))
        assert (found.lanes, found.meets) == (2, True)
        assert found.interval_s < 0.1

    def test_lost_parts_are_reported(self) -> None:
        asked = wish(latency_s=0.001)
        assert not plan(asked).meets
        assert "NOT" in "\n".join(lines(asked, plan(asked)))

    def test_ids_that_do_not_fit_need_more_processes(self) -> None:
        """Most of an id is in files; its filter should be in memory."""
        one = plan(wish(1_000, window_s=86_400, memory_bytes=4e9)).processes
        assert plan(wish(1_000, window_s=28 * 86_400, memory_bytes=4e9)).processes > one

    def test_a_million_a_second(self) -> None:
        found = plan(wish(1e6))
        assert found.cells > 1
        assert found.meets
        assert found.busy <= BUSY

    @given(
        st.floats(1, 2e6),
        st.floats(1, 7 * 86_400),
        st.floats(0.05, 60),
        st.integers(1, 16),
    )
    @examples(25)
    def test_every_plan_can_be_configured(
        self, rate: float, window_s: float, latency_s: float, most: int
    ) -> None:
        """Whatever is asked for: the settings that come out are ones that the product takes."""
        found = plan(wish(rate, window_s=window_s, latency_s=latency_s, processes_in_cell=most))
        assert found.processes <= most
        assert found.processes <= found.lanes <= MOST_LANES
        assert found.partitions >= found.processes
        assert found.busy <= BUSY
        interval = f"{found.interval_s * 1000:g}ms"
        assert Settings.from_env({**REQUIRED, "COMMIT_INTERVAL": interval}).lanes
        assert found.memory_bytes <= 64e9 * 1.01
        all_of_it = utilisation(Costs(), Setup(rate, 1, 1, 1.0))
        assert all_of_it <= found.busy * found.cells * most * (1 + 1e-9)


def test_the_limits_are_those_of_the_product() -> None:
    assert figures.COMMITS_AT_ONCE == commit_pool._COMMITS_AT_ONCE
    assert MOST_LANES == MAX_LANES


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("--rate 5000 --window 1d --latency 2s", 0, "LANES                        4"),
        ("--rate 5000 --latency 1ms", 1, "NOT the wished 0.001 s"),
        ("--rate 5000 --window 7", 2, "expected a duration"),
        ("--rate 0", 2, "not a number above 0"),
        ("--rate 100000 --cpu-us 30 --window 1h", 0, "processes (-i, -a)           5"),
    ],
)
def test_the_command(arguments: str, code: int, said: str) -> None:
    command = [sys.executable, "-m", "dataflow", "scale", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
