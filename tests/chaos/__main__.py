"""Try to lose, double or tear a payment: the real flow, a real Kafka, faults of every kind."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos import report
from tests.chaos.campaign import Campaign, Options
from tests.chaos.catalogue import Stage
from tests.chaos.shapes import SHAPES
from tests.support.kafka import distribution


def main() -> int:
    """Run what the arguments ask for; 0 if everything was done, and nothing was wrong."""
    arguments = _arguments()
    options = Options(
        seed=arguments.seed,
        minutes=arguments.minutes,
        kills=arguments.kills,
        shapes=tuple(SHAPES[name] for name in arguments.shapes),
        short=arguments.short,
        side_by_side=arguments.side_by_side,
        only=arguments.scene,
        faults=arguments.faults,
        stages=tuple(Stage[name.upper()] for name in arguments.stages),
        rate=arguments.rate,
    )
    # Both mean: leave nothing running.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    reason = distribution.missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    distribution.jars()
    print(f"seed {options.seed}", flush=True)
    campaign = Campaign(options, directory=arguments.directory)
    try:
        result = campaign.run(_progress(campaign))
    except KeyboardInterrupt:
        print(f"\nStopped; the logs are in {campaign.directory}", file=sys.stderr)
        return 130
    _clear_line()
    print(report.as_markdown(result))
    if arguments.json:
        arguments.json.write_text(report.as_json(result) + "\n")
    if arguments.document:
        report.document(result, arguments.document)
    for problem in result.problems:
        print(f"PROBLEM {problem}")
    for missing in result.missing:
        print(f"NOT ENOUGH {missing}")
    if not result.ok:
        print(f"The logs are in {campaign.directory}; a scene again: --seed {options.seed} --scene")
    return 0 if result.ok else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="at most; default: %(default)s")
    parser.add_argument("--kills", type=int, default=300, help="at least; default: %(default)s")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="to do it again")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--short", action="store_true", help="each named point once")
    stages = [stage.name.lower() for stage in Stage]
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages, help="which Kafkas")
    parser.add_argument("--scene", help="only this one, as in any-3")
    parser.add_argument("--faults", default="", help="only those with this in their names")
    parser.add_argument("--rate", type=float, default=150, help="requests a second, in each scene")
    parser.add_argument("--side-by-side", type=int, default=2, help="scenes at once on one broker")
    parser.add_argument("--directory", type=Path, help="keep everything there")
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--document", type=Path, help="put the tables into this document")
    return parser.parse_args()


def _progress(campaign: Campaign) -> Callable[[], None]:
    """Return a writer of a line that is rewritten in place on a terminal.

    Elsewhere it only writes each problem, as soon as it is there: it may be an hour to the end.
    """
    started = time.monotonic()
    told = 0

    def tell() -> None:
        nonlocal told
        result = campaign.result
        if not sys.stderr.isatty():
            for problem in result.problems[told:]:
                print(f"PROBLEM {problem}", file=sys.stderr, flush=True)
                told += 1
            return
        elapsed = time.monotonic() - started
        playing = "; ".join(f"{k}: {v}" for k, v in sorted(campaign.now_playing.items()))
        line = (
            f"{elapsed / 60:4.1f} min  {result.kills} kills  {result.scenes} scenes"
            f"  {len(result.problems)} problems  {playing}"
        )
        print(f"\r\033[K{line[:150]}", end="", file=sys.stderr, flush=True)

    return tell


def _clear_line() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
