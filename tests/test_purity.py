"""The rules are pure: `dataflow.core` and `schemas` touch no Kafka, no engine, no clock, nothing.

So what they decide depends on nothing but what they are given, and every test of them is a proof.
The rule is a list of what they may use; what is not on it has to be argued for here.
"""

import ast

import pytest

from tests.support.import_graph import imported, modules_below, path_of, reachable

PURE = ("dataflow.core", "schemas")
OURS = ("dataflow", "schemas")
ALLOWED = {
    # structures, types and arithmetic
    *(
        "abc",
        "base64",
        "bisect",
        "collections",
        "heapq",
        "dataclasses",
        "decimal",
        "enum",
        "functools",
    ),
    *("hashlib", "itertools", "math", "operator", "re", "struct", "typing", "zlib"),
    # instants are formatted, never asked for: see FORBIDDEN_NAMES
    "datetime",
    # codecs, tables and arrays
    *("iso4217", "msgspec", "numpy"),
}
FORBIDDEN_NAMES = {
    # the clock
    *("now", "utcnow", "today", "monotonic", "perf_counter", "time", "sleep"),
    # chance and secrets
    *("random", "default_rng", "urandom", "uuid1", "uuid4"),
    # the environment
    *("environ", "getenv", "argv"),
    # files, terminals, and ways around this test
    *("open", "print", "input", "fromfile", "tofile", "save", "load", "memmap"),
    *("eval", "exec", "__import__", "import_module"),
}


def impurities(source: str) -> set[str]:
    """Return what a module uses that a pure one must not."""
    tree = ast.parse(source)
    tops = {name.split(".")[0] for name in imported(tree)}
    found = tops - ALLOWED - {*OURS, "__future__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_NAMES:
            found.add(node.attr)
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            found.add(node.id)
        if isinstance(node, ast.alias) and node.name.split(".")[-1] in FORBIDDEN_NAMES:
            found.add(node.name)
        if isinstance(node, ast.Global):
            found.add("global")
    return found


EVERY = sorted(reachable([module for package in PURE for module in modules_below(package)]))


@pytest.mark.parametrize("module", EVERY)
def test_a_pure_module_uses_only_what_is_allowed(module: str) -> None:
    path = path_of(module)
    assert path is not None
    assert impurities(path.read_text(encoding="utf-8")) == set()


def test_pure_modules_import_pure_modules_only() -> None:
    """Nothing of ours is needed but the names of the faults, and the empty package around it."""
    outside = {module for module in EVERY if not module.startswith(PURE)}
    assert outside == {"dataflow", "dataflow.errors"}


def test_the_rules_are_all_there() -> None:
    """The test would also pass if it found nothing."""
    assert {"dataflow.core.decision", "dataflow.core.verdicts", "schemas.parsing"} <= set(EVERY)


@pytest.mark.parametrize(
    "source",
    [
        "import confluent_kafka",
        "from confluent_kafka.admin import AdminClient",
        "import bytewax.operators as op",
        "import time",
        "import os",
        "from os import environ",
        "import random",
        "import socket",
        "import asyncio",
        "import threading",
        "import logging",
        "import structlog",
        "def late():\n    import time",
        "from datetime import datetime\nat = datetime.now()",
        "import datetime\nat = datetime.date.today()",
        "import numpy as np\nchance = np.random.default_rng()",
        "from numpy.random import default_rng",
        "from numpy import random",
        "import numpy as np\nnp.fromfile('x')",
        "open('x')",
        "print('x')",
        "__import__('os')",
        "def count():\n    global number\n    number = 1",
    ],
)
def test_the_rule_notices(source: str) -> None:
    assert impurities(source)


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import UTC, datetime\ntext = datetime.fromtimestamp(0, UTC).isoformat()",
        "from collections import deque\nimport numpy as np\nx = np.zeros(3)",
        "from schemas.requests import PaymentRequest",
    ],
)
def test_the_rule_lets_pass(source: str) -> None:
    assert not impurities(source)
