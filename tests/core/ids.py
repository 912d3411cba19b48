"""Ids, contents and origins for the index, as small numbers."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dataflow.core.index import Index, Verdict
from dataflow.core.memory import Keys, Memory, Words


class Row(NamedTuple):
    """One request."""

    key: tuple[int, int]
    """Both words of the hash of its paymentId."""
    content: int
    """Any number but 0, which stands for a content that is not known."""
    origin: int


def columns(rows: Iterable[Row]) -> tuple[Keys, Words, Words]:
    """Return keys, prints and origins."""
    listed = list(rows)
    return (
        np.array([row.key for row in listed], np.uint64).reshape(-1, 2),
        np.array([row.content for row in listed], np.uint64),
        np.array([row.origin for row in listed], np.uint64),
    )


def observe(index: Index, segment: str, *rows: Row, dated_ms: int = 0) -> list[tuple[Verdict, int]]:
    """Return a verdict and the first origin for each row."""
    seen = index.observe(segment, dated_ms, *columns(rows))
    return [
        (Verdict(verdict), int(origin))
        for verdict, origin in zip(seen.verdicts, seen.first_origins, strict=True)
    ]


def memory(segment: str, rows: Iterable[tuple[Row, int]], dated_ms: int = 0) -> Memory:
    """Return what a segment remembers: each row with the time when it arrived."""
    listed = list(rows)
    return Memory(
        segment,
        dated_ms,
        *columns(row for row, _ in listed),
        np.array([arrived for _, arrived in listed], np.int64),
    )


def rows_of(memory: Memory) -> list[tuple[Row, int]]:
    """Return the rows that were put in, with their times of arrival."""
    rows = zip(
        memory.keys.tolist(),
        memory.prints.tolist(),
        memory.origins.tolist(),
        memory.arrived.tolist(),
        strict=True,
    )
    return [(Row((high, low), content, at), arrived) for (high, low), content, at, arrived in rows]
