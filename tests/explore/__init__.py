"""The examples that the property tests try: always the same, or new ones in `make explore`.

1. A run of the tests draws the same examples everywhere, whatever was imported before, so that
   nobody is the first to meet a rare one by running the tests.
2. `make explore` draws new ones, and more of them (`EXPLORE_TIMES` as many).
3. What it finds is mended and becomes an explicit `@example`, since rule 1 would not find it again.
"""

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

TIMES_VARIABLE = "EXPLORE_TIMES"
_USUAL = 100


def examples(usual: int, **how: Any) -> settings:
    """Try `usual` examples in a run of the tests, and so many times as many in `make explore`."""
    return settings(max_examples=usual * int(os.environ.get(TIMES_VARIABLE, "1")), **how)


def load_profile() -> None:
    """Set Hypothesis up. Every setting is named: it has other defaults where CI is set."""
    exploring = TIMES_VARIABLE in os.environ
    how = examples(
        _USUAL,
        derandomize=not exploring,
        database=None,
        print_blob=True,
        # A test shows how things are, not how fast the machine is.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.register_profile("ours", how)
    settings.load_profile("ours")
    if not exploring:
        # Hypothesis also tries constants that it reads in the modules of ours that are loaded at
        # that moment: a run of one file, or another worker of a run, would have other examples.
        vars(providers)["_get_local_constants"] = lambda: providers._local_constants
