"""The results of a campaign, for a terminal, for a machine, and for `docs/reliability.md`."""

import datetime as dt
import json
import platform
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.chaos.campaign import Result
from tests.chaos.catalogue import FAULTS
from tests.support.kafka import distribution

BEGIN, END = "<!-- campaign -->", "<!-- /campaign -->"
BAD = (
    "lost",
    "doubled",
    "torn",
    "phantom",
    "wrong content",
    "wrong key",
    "out of order",
    "money",
    "open transaction",
    "not at the end",
    "seen",
    "other",
)
"""Problems the topics may have; each count must be 0. *Seen*: otherwise during the faults."""
GOOD = (
    "records",
    "outcomes",
    "payment.processed",
    "payment.failed",
    "payment.duplicate",
    "payment.conflict",
)


def as_json(result: Result) -> str:
    """Return everything, for a machine."""
    return json.dumps(
        {
            "seed": result.seed,
            "started": _day(result),
            "seconds": round(result.seconds),
            "versions": versions(),
            "kills": result.kills,
            "runs": result.runs,
            "faults_while_disturbed": result.faults,
            "scenes": result.scenes,
            "points": result.hits,
            "faults": {
                fault.name: {
                    "expected": fault.expected,
                    "struck": result.struck[fault.name],
                    "seconds": round(result.spent_s[fault.name]),
                }
                for fault in FAULTS
            },
            "kills_by_shape": result.by_shape,
            "found": {name: result.counts[name] for name in GOOD} | bad(result),
            "problems": result.problems,
            "missing": result.missing,
        },
        indent=2,
    )


def as_markdown(result: Result) -> str:
    """Return the tables."""
    kafka, *others = (f"{name} {number}" for name, number in versions().items())
    minutes = round(result.seconds / 60)
    summary = (
        f"On {_day(result)}, in {minutes} minutes, with seed {result.seed}:"
        f" **{result.kills} kills** in {result.runs} runs of {result.scenes} flows,"
        f" on {kafka}, {', '.join(others)}. {result.faults} more runs ended by a fault as Kafka was"
        " coming back, and were started again, as any supervisor does."
    )
    lines = [
        summary,
        "",
        *_table(("found in the topics", "count"), _found(result)),
        "",
        *_table(("kills by shape", "count"), sorted(result.by_shape.items())),
        "",
        *_table(("named point", "killed there"), _points(result)),
        "",
        *_table(
            ("fault", "expected end", "struck, and ended so"),
            [(f.name, f.expected, result.struck[f.name]) for f in FAULTS if result.struck[f.name]],
        ),
    ]
    return "\n".join(lines) + "\n"


def document(result: Result, path: Path) -> None:
    """Put the tables into a document, between its two marks."""
    text = path.read_text()
    marks = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    assert marks.search(text), f"{path} lacks {BEGIN} and {END}"
    path.write_text(marks.sub(lambda _: f"{BEGIN}\n{as_markdown(result)}{END}", text))


def bad(result: Result) -> Counter[str]:
    """Return the number of problems of each kind."""
    counted: Counter[str] = Counter(dict.fromkeys(BAD, 0))
    for problem in result.problems:
        kinds = [kind for kind in BAD if f": {kind}" in problem.partition("\n")[0]]
        counted[kinds[0] if kinds else "other"] += 1
    return counted


def versions() -> dict[str, str]:
    """Return the versions of what was tested."""
    return {
        "Apache Kafka": distribution.version(),
        **{name: version(name) for name in ("bytewax", "confluent-kafka")},
        "Python": platform.python_version(),
    }


def _day(result: Result) -> str:
    return dt.datetime.fromtimestamp(result.started_s, dt.UTC).date().isoformat()


def _found(result: Result) -> list[tuple[str, int]]:
    return [(name, result.counts[name]) for name in GOOD] + [
        (f"**{name}**", count) for name, count in bad(result).items()
    ]


def _points(result: Result) -> list[tuple[str, int]]:
    points = dict.fromkeys(fault.point for fault in FAULTS if fault.point)
    return [(point, result.hits[point]) for point in points]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)]
