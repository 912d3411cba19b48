"""Ids, contents and origins for the index, as small numbers."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dataflow.core.lane_log import Entries, entries_of
from dataflow.core.lanes import KeyArray, U64Array
from dataflow.core.verdicts import Verdict
from dataflow.dedupe.tiered import Seen, TieredIndex


class Row(NamedTuple):
    """One request."""

    key: tuple[int, int]
    """Both words of the hash of its paymentId."""
    content: int
    origin: int


def columns(rows: Iterable[Row]) -> tuple[KeyArray, U64Array, U64Array]:
    """Return keys, fingerprints and origins."""
    listed = list(rows)
    return (
        np.array([row.key for row in listed], np.uint64).reshape(-1, 2),
        np.array([row.content for row in listed], np.uint64),
        np.array([row.origin for row in listed], np.uint64),
    )


def see(index: TieredIndex, date_s: int, *rows: Row) -> Seen:
    return index.observe(date_s, *columns(rows))


def observe(index: TieredIndex, date_s: int, *rows: Row) -> list[tuple[Verdict, int]]:
    """Return a verdict and the first origin for each row."""
    seen = see(index, date_s, *rows)
    return [
        (Verdict(verdict), int(origin))
        for verdict, origin in zip(seen.verdicts, seen.first_origins, strict=True)
    ]


def entries(date_s: int, *rows: Row) -> Entries:
    """Return what the log has of these rows."""
    return entries_of(*columns(rows), date_s)


def rows_in(entries: Entries) -> list[tuple[Row, int]]:
    """Return the rows of entries, each with its date."""
    return [
        (Row((int(key[0]), int(key[1])), int(content), int(origin)), int(date_s))
        for key, content, origin, date_s in entries.tolist()
    ]
