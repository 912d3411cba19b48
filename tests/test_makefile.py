"""`make test` and `make cases` leave no test out, and run in an environment that is fair."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

PYTHON = """#!/bin/sh
case "$*" in
*further*) echo cases; exit {cases};;
*campaign*) echo campaign; exit {campaign};;
esac
"""


@pytest.mark.parametrize(
    ("cases", "campaign", "green"), [(0, 0, True), (1, 0, False), (0, 1, False), (1, 1, False)]
)
def test_the_campaign_runs_even_if_a_case_fails(
    cases: int,
    campaign: int,
    green: bool,  # noqa: FBT001  (a case)
    tmp_path: Path,
) -> None:
    python = tmp_path / "python"
    python.write_text(PYTHON.format(cases=cases, campaign=campaign))
    python.chmod(0o755)
    (tmp_path / ".complete").touch()
    command = ["make", "cases", f"VENV={tmp_path}", f"RUN={python}", "ARGS="]
    # Not as a part of the make that may have started this test, with its variables.
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[:2] == ["cases", "campaign"]
    assert (done.returncode == 0) == green


def test_the_tests_are_not_slowed_down_by_the_environment(tmp_path: Path) -> None:
    """Without files of bytecode, each of the many starts of the flow compiles all of it."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "[$PYTHONDONTWRITEBYTECODE]"\n')
    python.chmod(0o755)
    (tmp_path / ".complete").touch()
    command = ["make", "test", f"VENV={tmp_path}", f"RUN={python}", "ARGS="]
    environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"[]"}


def test_tests_and_cases_leave_nothing_out(tmp_path: Path) -> None:
    """A marker that one of them leaves out is what the other one selects."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$*"\n')
    python.chmod(0o755)
    (tmp_path / ".complete").touch()
    environ = {"PATH": os.environ["PATH"]}
    selections = []
    for target in ("test", "cases"):
        command = ["make", target, f"VENV={tmp_path}", f"RUN={python}", "ARGS="]
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
        )
        selections += re.findall(r" -m ([a-z ]+)$", done.stdout, re.MULTILINE)
    assert selections == ["not campaign and not further", "further", "campaign"]


def test_the_oldest_kafka_has_the_tests_of_the_guarantees(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$KAFKA_TEST_VERSION $*"\n')
    python.chmod(0o755)
    (tmp_path / ".complete").touch()
    command = ["make", "oldest-kafka", f"VENV={tmp_path}", f"RUN={python}", "ARGS="]
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    version, *words = done.stdout.split()
    assert version == "oldest"
    files = [word for word in words if word.endswith(".py")]
    assert "tests/integration/test_exactly_once.py" in files
    assert len(files) > 5
    assert all((ROOT / file).exists() for file in files)
