"""Run the flow for a while at a steady rate, and see that nothing it has grows.

Writes samples.csv, report.json and soak.png. Exit code 0 when everything is flat and every
invariant holds, 1 when not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dataflow.config import values
from tests import ROOT
from tests.soak import plot, samples
from tests.soak.flatness import LEAST, Verdict, judge
from tests.soak.samples import ALLOWED, LABELS, Sample, Sampler
from tests.soak.traffic import PARTITIONS, Traffic
from tests.support.flow_process import Flow, Topics
from tests.support.kafka import Broker, DiskBroker

_SAMPLES = 360
"""At most: more often than once a second nothing much happens."""
_DECIDE_S = 120.0


def main() -> int:
    """Run what the arguments ask for."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    options = ("-Xmx1g", "-XX:TieredStopAtLevel=4")
    with (
        tempfile.TemporaryDirectory(prefix="payments-soak-") as scratch,
        DiskBroker.start(java_options=options) as kafka,
    ):
        taken, verified, sent = _run(kafka, Path(scratch), args)
    samples.write(args.out / "samples.csv", taken)
    verdicts = {name: judge(*samples.series(taken, name), ALLOWED[name]) for name in LABELS}
    minutes = f"{args.minutes:g} minutes at {args.rate}/s, DEDUPE_WINDOW={args.window}"
    plot.draw(args.out / "soak.png", taken, verdicts, minutes)
    good = verified["holds"] and all(verdict.flat for verdict in verdicts.values())
    report = {
        "good": good,
        "minutes": args.minutes,
        "rate": args.rate,
        "window": args.window,
        "seed": args.seed,
        "requests": sent,
        "flatness": {
            name: {**verdict._asdict(), "flat": verdict.flat} for name, verdict in verdicts.items()
        },
        "verify": verified,
    }
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    _print(minutes, sent, verdicts, verified)
    print(f"\nSee {args.out / 'soak.png'}, samples.csv and report.json beside it.")
    return 0 if good else 1


def _run(
    kafka: Broker, directory: Path, args: argparse.Namespace
) -> tuple[list[Sample], dict[str, Any], int]:
    topics = Topics("soak")
    topics.create(kafka, PARTITIONS)
    window_s = values.duration_s("1s", "366d").parse(args.window)
    environ = {"DEDUPE_WINDOW": args.window, "LANES": ""}
    traffic = Traffic(kafka, topics, args.rate, window_s, args.seed)
    with Flow(kafka, topics, directory, environ=environ, commit_interval="") as flow:
        flow.wait_until_ready()
        traffic.start()
        taken = _sample(Sampler(flow, directory / "recovery", traffic), flow, traffic, args.minutes)
        traffic.stop()
        flow.wait(lambda: traffic.seen == traffic.sent, _DECIDE_S, "done with all requests")
        traffic.close()
        code = flow.terminate()
        if code:
            sys.exit(f"the flow exited with {code}:\n{flow.log[-4000:]}")
        return taken, _verify(flow), traffic.sent


def _sample(sampler: Sampler, flow: Flow, traffic: Traffic, minutes: float) -> list[Sample]:
    every_s = max(1.0, minutes * 60 / _SAMPLES)
    taken: list[Sample] = []
    started_s = time.monotonic()
    while (elapsed_s := time.monotonic() - started_s) < minutes * 60:
        time.sleep(max(0.0, (len(taken) + 1) * every_s - elapsed_s))
        traffic.check()
        if flow.process.poll() is not None:
            sys.exit(f"the flow ended by itself:\n{flow.log[-4000:]}")
        taken.append(sampler.take())
        if sys.stderr.isatty():
            last = taken[-1]
            sys.stderr.write(
                f"\r\x1b[K{last.seconds / 60:5.1f} min  {last.rate:6.0f}/s"
                f"  {last.memory_mb:.0f} MB  p99 {last.p99_ms:.0f} ms"
            )
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    return taken


def _verify(flow: Flow) -> dict[str, Any]:
    """Return the checker's report on all that was published."""
    command = [sys.executable, "-m", "dataflow", "verify", "--json"]
    environ = {name: value for name, value in flow.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=False)
    if not done.stdout:
        sys.exit(f"the checker exited with {done.returncode}: {done.stderr.decode()}")
    return dict(json.loads(done.stdout))


def _print(title: str, sent: int, verdicts: dict[str, Verdict], verified: dict[str, Any]) -> None:
    print(f"{title}: {sent:,} requests\n")
    print(
        f"{'second half of the run':28}{'level':>10}{'growth':>10}{'95 % up to':>12}{'allowed':>10}"
    )
    for name, verdict in verdicts.items():
        print(
            f"{LABELS[name]:28}{verdict.level:10.1f}{verdict.growth:+10.2f}{verdict.high:+12.2f}"
            f"{verdict.allowed:10.2f}  {'flat' if verdict.flat else 'NOT FLAT'}"
        )
    wrong = {kind: count for kind, count in verified["findings"].items() if count}
    counts = verified["counts"]
    print(
        f"\nverified: {counts['requests']:,} requests, {counts['payments']:,} paymentIds,"
        f" {counts['outcomes']:,} outcomes, {counts['duplicates']:,} duplicates,"
        f" {counts['conflicts']:,} conflicts; wrong: {wrong or 'nothing'}"
    )
    for example in verified["examples"]:
        print(f"  {example}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument("--rate", type=int, default=1000, help="requests a second: %(default)s")
    parser.add_argument("--window", default="60s", help="DEDUPE_WINDOW, default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("soak-report"), help="default: %(default)s"
    )
    args = parser.parse_args()
    if args.minutes * 60 < 2 * LEAST + 2:
        parser.error(f"--minutes: at least {(2 * LEAST + 2) / 60:.1f}, to see anything")
    return args


if __name__ == "__main__":
    sys.exit(main())
