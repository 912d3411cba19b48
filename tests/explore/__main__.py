"""Try new examples in every property test, for as long as there is time: `make explore`.

It works in rounds, each of which has a seed and tries twice as many examples as the one before. The
first round that fails ends it. What was found is in its output three times over: as values, as a
`@reproduce_failure` line, and as the seed that repeats the round.
"""

import argparse
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable

from tests.explore import TIMES_VARIABLE

FOUND = """
Found with seed {seed}. The same round again:

    make explore ARGS="--seed {seed} --times {times}{rest}"

Mend it, in the product or in the test, and add the values that are printed above as an explicit
`@example(...)` (for a state machine: a test that takes its steps), so that every run tries them.
"""


def main() -> int:
    """Return 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="explore", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long it may take")
    parser.add_argument("--seed", type=int, help="one round only, with this seed")
    parser.add_argument("--times", type=int, default=1, help="first round: how many times as many")
    wanted, rest = parser.parse_known_args()
    if wanted.seed is not None:
        return explore(wanted.seed, wanted.times, rest)
    return explore_for(
        wanted.minutes * 60,
        wanted.times,
        lambda times: explore(secrets.randbelow(2**32), times, rest),
    )


def explore_for(
    limit_s: float,
    times: int,
    explore_once: Callable[[int], int],
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Explore at least once, and again while a round of the same length still fits."""
    end = clock() + limit_s
    while True:
        started = clock()
        code = explore_once(times)
        took, left = clock() - started, end - clock()
        if code or took > left:
            return code
        times = 2 * times if 2 * took <= left else times


def explore(seed: int, times: int, rest: list[str]) -> int:
    """Run all property tests once; Kafka is too slow for many examples."""
    print(f"explore: seed {seed}, {times} times as many examples as usual", flush=True)
    command = [sys.executable, "-m", "pytest", "--quiet", "--numprocesses", "4", "--timeout", "0"]
    command += ["-m", "hypothesis and not kafka", f"--hypothesis-seed={seed}", *rest]
    environ = os.environ | {TIMES_VARIABLE: str(times)}
    code = subprocess.run(command, env=environ, check=False).returncode
    if code == 1:
        print(FOUND.format(seed=seed, times=times, rest="".join(f" {each}" for each in rest)))
    return code


if __name__ == "__main__":
    sys.exit(main())
