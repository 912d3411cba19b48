"""The runs of the tests are reproducible, and exploring is not: shown with runs of a small test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.explore.__main__ import explore_for

TESTS = ROOT / "tests"
DRAWN = """
from tests.explore import examples, load_profile
load_profile()
{imports}
from hypothesis import given, strategies as st

@examples(50)
@given(st.integers(), st.text())
def draw(number, text):
    print(number, ascii(text))

draw()
"""
FAILING = """
from hypothesis import given, strategies as st

@given(st.integers(0, 1000))
def test_small(number):
    assert number < 900
"""


def drawn(tmp_path: Path, imports: str = "", **environ: str) -> str:
    """Return the examples that a property test tries in a new process."""
    script = tmp_path / "drawn.py"
    script.write_text(DRAWN.format(imports=imports))
    return run("drawn.py", cwd=tmp_path, **environ).stdout


def run(*command: str, cwd: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    paths = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=paths | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the examples of a first run."""
    return drawn(tmp_path_factory.mktemp("first"))


class TestFixed:
    def test_two_runs_try_the_same(self, first: str, tmp_path: Path) -> None:
        assert len(first.splitlines()) == 50
        assert drawn(tmp_path) == first

    def test_ci_changes_nothing(self, first: str, tmp_path: Path) -> None:
        assert drawn(tmp_path, CI="true") == first

    def test_earlier_imports_change_nothing(self, first: str, tmp_path: Path) -> None:
        assert drawn(tmp_path, imports="import dataflow.flow") == first

    def test_every_number_of_examples_grows_when_exploring(self) -> None:
        """Settings of a test's own come from `examples`."""
        own = re.compile(r"from hypothesis import .*\bsettings\b|hypothesis\.settings")
        sources = {path: path.read_text("utf-8") for path in TESTS.rglob("test_*.py")}
        del sources[Path(__file__)]
        assert [name for name, source in sources.items() if own.search(source)] == []


class TestExploring:
    def test_two_runs_try_other_examples_and_more(self, tmp_path: Path) -> None:
        first, second = (drawn(tmp_path, EXPLORE_TIMES="3") for _ in range(2))
        assert len(first.splitlines()) == len(second.splitlines()) == 150
        assert first != second

    def explore(self, tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "conftest.py").write_text("from tests import explore\nexplore.load_profile()\n")
        (tmp_path / "test_small.py").write_text(FAILING)
        # The program that starts the tests may have its own options for pytest.
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        return run("-m", "tests.explore", *arguments, "--numprocesses", "0", cwd=tmp_path)

    def test_a_find_fails_and_shows_how_to_reproduce_it(self, tmp_path: Path) -> None:
        done = self.explore(tmp_path, "--minutes", "0", "test_small.py")
        assert done.returncode == 1
        assert "number=900" in done.stdout
        assert "@reproduce_failure(" in done.stdout
        assert "explicit\n`@example(...)`" in done.stdout
        again = re.search(r'ARGS="(--seed \d+ --times 1) test_small.py', done.stdout)
        assert again
        repeated = self.explore(tmp_path, *again[1].split(), "test_small.py")
        assert (repeated.returncode, again[0] in repeated.stdout) == (1, True)

    @pytest.mark.parametrize(
        ("limit_s", "rounds"),
        [
            (0, [1]),
            (19, [1]),
            (25, [1, 1]),
            (30, [1, 2]),
            (75, [1, 2, 4]),
            (100, [1, 2, 4]),
        ],
    )
    def test_it_ends_in_time(self, limit_s: float, rounds: list[int]) -> None:
        """A round takes 10 s, or so many times as long as it has times as many examples."""
        tried: list[int] = []

        def explore_once(times: int) -> int:
            tried.append(times)
            return 0

        assert explore_for(limit_s, 1, explore_once, lambda: 10.0 * sum(tried)) == 0
        assert tried == rounds

    def test_the_first_find_ends_it(self) -> None:
        codes = iter([0, 1])
        assert explore_for(1000, 1, lambda _times: next(codes), lambda: 0.0) == 1
