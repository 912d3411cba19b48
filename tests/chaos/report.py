"""The results of a campaign, for a terminal, for a machine, and for `docs/reliability.md`."""

import datetime as dt
import json
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.chaos import money
from tests.chaos.campaign import Result
from tests.chaos.catalogue import FAULTS
from tests.support.kafka import distribution

BEGIN, END = "<!-- campaign -->", "<!-- /campaign -->"
COLUMNS_BEGIN, COLUMNS_END = "<!-- columns -->", "<!-- /columns -->"
IN_TOPICS: Mapping[str, str] = {
    "lost": "requests that neither have an outcome nor wait for the gateway",
    "doubled": "payments with more than one outcome",
    "torn": "outcomes without their audit event, or the other way round",
    "phantom": "events that nobody asked for",
    "wrong content": "events that differ from their request",
    "wrong verdict": "duplicates and conflicts that are none, or that name a wrong first record",
    "unclaimed": "payments with an outcome that the lane log has not claimed",
    "wrong claim": "claims in the lane log without an outcome of that record",
    "wrong key": "events under another key than their paymentId",
    "out of order": "decisions in another order than that of their records",
    "money": "currencies whose sums of requests and outcomes differ",
    "open transaction": "topics that a `read_committed` reader cannot read to the end",
    "not at the end": "committed offsets that are not at the end",
    "seen": "records that a reader has seen otherwise during the faults",
    "other": "everything else, such as a fault that did not come to its expected end",
}
BAD: Mapping[str, str] = {**IN_TOPICS, **money.COLUMNS}
"""Problems there may be, with their meaning; each count must be 0."""
GOOD = (
    "records",
    "outcomes",
    "payment.processed",
    "payment.failed",
    "payment.duplicate",
    "payment.conflict",
    "pending",
)
_KIND = re.compile(r"[^:]*: (?P<kind>[^:\n]+):")
"""Of a problem: it follows the name of the scene."""


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
            "kills_by_gateway": result.by_gateway,
            "kills_in_commit": result.kills_in_commit,
            "restarts": result.restarts,
            "restarts_without_directory": result.without_store,
            "found": {name: result.counts[name] for name in (*GOOD, *money.FIGURES)} | bad(result),
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
        f" **{result.kills:,} kills**, {result.kills_in_commit:,} of them inside a commit, in"
        f" {result.runs:,} runs of {result.scenes} flows; {result.without_store:,} of"
        f" {result.restarts:,} restarts were without a recovery directory;"
        f" on {kafka}, {', '.join(others)}. {result.faults} more runs ended by a fault as Kafka was"
        " coming back, and were started again, as any supervisor does."
    )
    lines = [
        summary,
        "",
        *_table(("found in the topics", "count"), _found(result, GOOD, IN_TOPICS)),
        "",
        *_table(
            ("the provider's book against the topics", "count"),
            _found(result, money.FIGURES, money.COLUMNS),
        ),
        "",
        *_table(("kills by shape", "count"), sorted(result.by_shape.items())),
        "",
        *_table(("kills by gateway", "count"), sorted(result.by_gateway.items())),
        "",
        *_table(("named point", "killed there"), _points(result)),
        "",
        *_table(
            ("fault", "expected end", "struck, and ended so"),
            [(f.name, f.expected, result.struck[f.name]) for f in FAULTS if result.struck[f.name]],
        ),
    ]
    return "\n".join(lines) + "\n"


def columns() -> str:
    """Return the table of what must not be found."""
    rows = [(f"**{name}**", meaning) for name, meaning in BAD.items()]
    return "\n".join(_table(("count that must be 0", "of"), rows)) + "\n"


def document(result: Result, path: Path) -> None:
    """Put the tables into a document, each between its two marks."""
    text = path.read_text()
    for begin, end, tables in (
        (BEGIN, END, as_markdown(result)),
        (COLUMNS_BEGIN, COLUMNS_END, columns()),
    ):
        text = put(text, begin, end, tables)
    path.write_text(text)


def put(text: str, begin: str, end: str, tables: str) -> str:
    """Return a text with tables between two marks."""
    before, mark, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    assert mark, f"the document lacks {begin}"
    assert closing, f"the document lacks {end}"
    return f"{before}{begin}\n{tables}{end}{after}"


def bad(result: Result) -> Counter[str]:
    """Return the number of problems of each kind."""
    counted: Counter[str] = Counter(dict.fromkeys(BAD, 0))
    for problem in result.problems:
        match = _KIND.match(problem)
        counted[match["kind"] if match and match["kind"] in BAD else "other"] += 1
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


def _found(result: Result, figures: Iterable[str], kinds: Iterable[str]) -> list[tuple[str, int]]:
    counted = bad(result)
    return [(name, result.counts[name]) for name in figures] + [
        (f"**{name}**", counted[name]) for name in kinds
    ]


def _points(result: Result) -> list[tuple[str, int]]:
    points = dict.fromkeys(fault.point for fault in FAULTS if fault.point)
    return [(point, result.hits[point]) for point in points]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)]
