"""The calculator's command line: from the wishes to the answer, and the exit code."""

import argparse
import math
from collections.abc import Mapping, Sequence

from msgspec import structs

from dataflow.config.values import duration_s
from dataflow.console import arguments
from dataflow.scaling.costs import MEANING, Costs
from dataflow.scaling.plan import Plan, Wish, plan

_DESCRIPTION = """\
Recommend LANES, COMMIT_INTERVAL, partitions and processes for a load, and estimate what they need.
The reasoning is in docs/scaling.md, the measurements in docs/performance.md.
"""
_EPILOG = """\
examples:
  payments scale --rate 5000 --window 1d --latency 2s
  payments scale --rate 1000000 --average 200000 --window 1h --latency 3s --memory-gb 64
  payments scale --rate 5000 --latency 200ms --cpu-us 15   15 us a payment on your machine

exit code: 0 when the latency can be kept, 1 when not, 2 for a wrong argument
"""
_DURATION = duration_s("1ms", "366d")


def main(argv: Sequence[str], _environ: Mapping[str, str]) -> int:
    """Print the answer; 1 if the wished latency cannot be kept."""
    wish = _wish(argv)
    found = plan(wish)
    print("\n".join(lines(wish, found)))  # noqa: T201  (what a command prints is its interface)
    return 0 if found.meets else 1


def lines(wish: Wish, found: Plan) -> list[str]:
    """Return the answer, in words."""
    waits = found.waits
    kept = "" if found.meets else f"   NOT the wished {wish.latency_s:g} s"
    cells = [f"cells                        {found.cells}"]
    if found.cells > 1:
        cells.append("                             split the requests by paymentId; each cell has")
        cells.append("                             its own topics, KAFKA_GROUP_ID and log")
    of = "of each cell" if found.cells > 1 else ""
    brokers = f"{found.brokers} brokers or more (3 replicas)"
    return [
        *cells,
        f"processes (-i, -a)           {found.processes} {of}".rstrip(),
        f"input partitions             {found.partitions} {of}".rstrip(),
        f"LANES                        {found.lanes}",
        f"COMMIT_INTERVAL              {found.interval_s * 1000:g}ms",
        "",
        f"request to visible           p50 {waits.p50_s:.2g} s, p99 {waits.p99_s:.2g} s{kept}",
        f"a worker is busy             {found.busy:.0%} of its time",
        f"CPU of a process             {found.cores:.2g} cores",
        f"memory of a process          {_bytes(found.memory_bytes)} for {found.ids:,.0f} ids",
        f"recovery directory           {_bytes(found.file_bytes)}, of each process",
        f"lane log of a cell           {_bytes(found.log_bytes)} on each replica",
        f"a restart without files      about {found.resume_s:,.0f} s",
        f"Kafka                        {found.transactions_per_s:,.0f} transactions/s, {brokers}",
    ]


def _wish(argv: Sequence[str]) -> Wish:
    parser = arguments.parser("scale", _DESCRIPTION, _EPILOG)
    parser.add_argument("--rate", type=_rate, required=True, help="peak requests/s")
    parser.add_argument(
        "--average", type=_rate, help="mean requests/s over the window (default: --rate)"
    )
    parser.add_argument(
        "--memory-gb",
        type=_rate,
        default=64,
        help="memory of a process, in GB (default: %(default)s)",
    )
    parser.add_argument(
        "--window", type=_duration, default="7d", help="DEDUPE_WINDOW (default: 7d)"
    )
    parser.add_argument(
        "--latency",
        type=_duration,
        default="2s",
        help="p99 from request to visible outcome (default: 2s)",
    )
    parser.add_argument(
        "--processes-in-cell",
        type=int,
        default=8,
        choices=range(1, 65),
        metavar="1..64",
        help="most processes that share one set of topics (default: %(default)s)",
    )
    measured = parser.add_argument_group("costs", "as measured on two cores; yours may differ")
    for cost in structs.fields(Costs):
        option = "--" + cost.name.replace("_", "-")
        text = f"{MEANING[cost.name]} (default: {cost.default:g})"
        measured.add_argument(option, type=_rate, default=cost.default, metavar="N", help=text)
    args = vars(parser.parse_args(argv))
    costs = Costs(**{cost.name: args[cost.name] for cost in structs.fields(Costs)})
    return Wish(
        rate=args["rate"],
        average=args["average"] or args["rate"],
        memory_bytes=args["memory_gb"] * 1e9,
        window_s=args["window"],
        latency_s=args["latency"],
        processes_in_cell=args["processes_in_cell"],
        costs=costs,
    )


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _duration(text: str) -> float:
    try:
        return float(_DURATION.parse(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected {_DURATION.expects}") from None


def _bytes(value: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"
