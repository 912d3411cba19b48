"""The command line: its options, and the meaning of its exit codes."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dataflow.config.settings import Settings
from dataflow.console import arguments, running
from dataflow.console.progress import Progress
from dataflow.kafka import preflight
from dataflow.verify import report
from dataflow.verify.checker import Check, Report, Watched
from dataflow.verify.kafka_reader import KafkaReader
from dataflow.verify.readings import Reading, compare

HOLDS, BROKEN = 0, 1
"""Exit codes, besides those of all tools."""

_DESCRIPTION = """\
Read the request topic, the three output topics and the lanes' log, and check that every request was
decided exactly once, and is remembered. Which cluster, and which topics, is taken from the
environment, as for the flow itself; so are LANES, DEDUPE_WINDOW and KAFKA_MESSAGE_MAX_BYTES, by
which the flow decides. Nothing is written.
"""
_EPILOG = """\
examples:
  payments verify                           the flow is stopped, or idle
  payments verify --running                 undecided requests are not reported
  payments verify --follow --until-idle 1m  reads twice; both readings must agree
  payments verify --json > report.json

exit code: 0 when everything holds, 1 when not, 2 when it could not be checked, 130 when it was
interrupted
"""


class Following:
    """The decision to go on reading.

    Args:
        idle_s: How long nothing may come.
    """

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._heard_s = time.monotonic()
        self._stopped = False

    def heard(self) -> None:
        """Note that something has come."""
        self._heard_s = time.monotonic()

    def stop(self, *_: object) -> None:
        """Go on to the second reading."""
        self._stopped = True

    def __call__(self) -> bool:
        """Return whether to go on."""
        return not self._stopped and time.monotonic() - self._heard_s < self._idle_s


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Check, print the report, and return the exit code."""
    args = _arguments(argv)
    return running.run(environ, lambda settings, progress: _verify(settings, args, progress))


def _verify(settings: Settings, args: argparse.Namespace, progress: Progress) -> int:
    preflight.inspect(settings.kafka)
    timeout_s = running.timeout_s(settings, args.timeout)
    reader = KafkaReader(settings, timeout_s, running.as_json(settings))
    with tempfile.TemporaryDirectory(dir=args.scratch, prefix="payments-verify-") as scratch:
        found = _check(settings, reader, Path(scratch), args, progress)
        progress.end()
    _print(found, reader, as_json=args.json)
    return HOLDS if found.holds else BROKEN


def _check(
    settings: Settings,
    reader: KafkaReader,
    scratch: Path,
    args: argparse.Namespace,
    progress: Progress,
) -> Report:
    if not args.follow:
        watched = Watched(progress)
        return Check(settings, reader, scratch, running=args.running, watched=watched).run()
    first, second = (Reading(_made(scratch / name)) for name in ("first", "second"))
    following = Following(args.until_idle)
    with _ended_by_signals(following):
        for topic, chunks in reader.follow(following):
            for chunk in chunks:
                following.heard()
                first.add(topic, chunk)
            progress("records seen so far", first.records, 0)
    check = Check(
        settings,
        reader,
        _made(scratch / "check"),
        running=args.running,
        watched=Watched(progress, second.add),
    )
    found = check.run()
    found.notes.append(
        f"{first.records} records were seen while things happened, {second.records} afterwards"
    )
    compare(first, second, check.lows, found.findings)
    return found


@contextmanager
def _ended_by_signals(following: Following) -> Iterator[None]:
    """Let the first signal end only the first reading: another one ends everything as usual."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, following.stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(found: Report, reader: KafkaReader, *, as_json: bool) -> None:
    payment_id = report.payment_ids(reader)
    if as_json:
        print(report.as_json(found, payment_id))
    else:
        print("\n".join(report.as_text(found, payment_id)))


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = arguments.parser("verify", _DESCRIPTION, _EPILOG)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--running",
        action="store_true",
        help="the flow is running: do not report requests that it has not decided yet",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="read until no records arrive, or SIGINT; then read everything again, check that, and"
        " compare the two readings",
    )
    parser.add_argument(
        "--until-idle",
        type=arguments.duration_s,
        default=30.0,
        metavar="DURATION",
        help="with --follow: end after so long without records (default: 30s)",
    )
    arguments.add_timeout(parser)
    parser.add_argument(
        "--scratch",
        type=Path,
        metavar="DIRECTORY",
        help="directory for temporary files, about 300 bytes per request (default: the system's)",
    )
    return parser.parse_args(argv)
