"""Programs of `javascript/`, with the packages of its lock: AsyncAPI's parser, and Ajv."""

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.bench import prepare

PROGRAMS = Path(__file__).with_name("javascript")


def run(program: str, *args: str, stdin: str = "") -> Any:
    """Run a program, and return the JSON that it prints; skip the test where it cannot run."""
    done = subprocess.run(
        ["node", str(PROGRAMS / program), *args],
        env={"PATH": os.environ.get("PATH", ""), "NODE_PATH": str(_installed() / "node_modules")},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@functools.cache
def _installed() -> Path:
    if lacking := prepare.missing("node", "npm"):
        pytest.skip(f"AsyncAPI's parser and Ajv need {lacking}")
    try:
        return prepare.packages("schemas", PROGRAMS, print)
    except prepare.BuildError as error:
        pytest.skip(f"npm could not bring AsyncAPI's parser and Ajv: {error}")
