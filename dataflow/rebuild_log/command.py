"""`payments rebuild-log`: its options, what it prints, and the meaning of its exit codes."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dataflow.config.settings import Settings
from dataflow.console import arguments, running
from dataflow.console.progress import Progress
from dataflow.console.reading import open_entries, read
from dataflow.core.origins import generation_of
from dataflow.kafka import preflight
from dataflow.kafka.topic_scan import TopicScan
from dataflow.process_context import Cluster
from dataflow.rebuild_log import writer
from dataflow.rebuild_log.history import Found, History
from dataflow.rebuild_log.writer import Lanes, NotRebuiltError, Writer
from schemas.events import instant

DONE = 0
"""The exit code, besides those of all tools."""

_DESCRIPTION = """\
Make a lane log again that was lost: the ids of all payments that have an outcome, or wait for the
gateway, are read from the topics of the outcomes, and written to the log as its lanes would have
done. The flow must be stopped; if it is not, it is fenced off and ends. Without --write nothing is
written, only counted. It needs about 200 bytes of memory for each payment of the dedupe window.

What retention has deleted from the outcomes cannot be remembered again. Which cluster, and which
topics, is taken from the environment, as for the flow itself.
"""
_EPILOG = """\
examples:
  payments rebuild-log
  payments rebuild-log --write

exit code: 0 when all that was found is written, or counted; 2 for a wrong argument, or when the
topics could not be read or written, 130 when it was interrupted
"""
_EARLIER_S = 3600
"""An outcome is written later than its payment is dated; and clocks may differ by less."""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Count or write, and return the exit code."""
    args = _arguments(argv)
    return running.run(environ, lambda settings, progress: _rebuild(settings, args, progress))


def _rebuild(settings: Settings, args: argparse.Namespace, progress: Progress) -> int:
    cluster = preflight.inspect(settings.kafka)
    timeout_s = running.timeout_s(settings, args.timeout)
    lanes = writer.read(settings, cluster)
    to = None
    if args.write:
        count = len(lanes.committed)
        to = Writer(settings, cluster, count)
        # With what an execution has committed last that was fenced by that.
        lanes = writer.read(settings, cluster)
        if len(lanes.committed) > count:
            raise NotRebuiltError("LANES: it was changed meanwhile; run this again")
    scan = TopicScan(settings.kafka, timeout_s, "rebuild-log", running.as_json(settings))
    found = read_history(scan, settings, cluster, lanes, progress)
    written = None if to is None else to.write(lanes, found.entries, progress)
    progress.end()
    if args.json:
        print(json.dumps(as_json(found, lanes, written), indent=2))
    else:
        print("\n".join(as_text(found, lanes, written)))
    return DONE


def read_history(
    scan: TopicScan, settings: Settings, cluster: Cluster, lanes: Lanes, progress: Progress
) -> Found:
    """Read the topics, and return what is to be remembered.

    The pending topic is read first: what waits no longer then has an outcome that is seen later.
    """
    kafka = settings.kafka
    history = History(kafka.topic_requested, generation_of(cluster.topic_id))
    waiting, unreadable = open_entries(scan, kafka.topic_pending, progress).read()
    if unreadable:
        raise NotRebuiltError(
            f"topic {kafka.topic_pending}: {unreadable} entries cannot be read by this version:"
            " a newer one has written them; use that"
        )
    history.take_pending(waiting, time.time())
    since_ms = max(0, lanes.since_s - _EARLIER_S) * 1000
    for topic in (kafka.topic_processed, kafka.topic_failed):
        for chunk in read(scan, topic, progress, since_ms):
            history.take_outcomes(chunk.values)
    for chunk in read(scan, kafka.topic_audit, progress, since_ms):
        history.take_audit(chunk.values)
    return history.found()


def as_text(found: Found, lanes: Lanes, written: int | None) -> Iterator[str]:
    """Yield what was found, and what was done, in lines."""
    yield f"{len(found.entries):>12,}  payment ids were found"
    yield f"{found.waiting:>12,}  of them wait for the gateway"
    if found.without_content:
        yield (
            f"{found.without_content:>12,}  of them have no outcome any more, only repeats: they"
            " are remembered without their content, so each copy is called a conflict"
        )
    if found.unreadable:
        yield f"{found.unreadable:>12,}  records that are no events of this flow were passed over"
    yield f"The lanes remember what was seen since {instant(lanes.since_s)}."
    if written is None:
        yield "Nothing was written: stop the flow, and give --write."
    else:
        yield f"{written:,} ids were written to the lane log. Start the flow."


def as_json(found: Found, lanes: Lanes, written: int | None) -> dict[str, Any]:
    """Return the same for machines."""
    return {
        "ids": len(found.entries),
        "waiting": found.waiting,
        "withoutContent": found.without_content,
        "unreadable": found.unreadable,
        "since": instant(lanes.since_s),
        "written": written,
    }


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = arguments.parser("rebuild-log", _DESCRIPTION, _EPILOG)
    parser.add_argument("--write", action="store_true", help="write; without it, count only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments.add_timeout(parser)
    return parser.parse_args(argv)
