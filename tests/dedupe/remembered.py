"""Entries, batches and files for the tests of remembered ids."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataflow.core.bloom import probes
from dataflow.core.hot_ids import HotIds
from dataflow.core.lane_log import Entries, entries_of
from dataflow.core.verdicts import Batch, Judgement, Verdict
from dataflow.dedupe.background import Background
from dataflow.dedupe.manifest import Owner
from dataflow.dedupe.run import Run
from dataflow.dedupe.run_format import RunFacts
from dataflow.dedupe.run_writer import RunWriter
from dataflow.dedupe.tiered import Seen

OWNER = Owner(cluster="kafka-1", topic="topic-1", lane=3, lanes=16)
Key = tuple[int, int]


class Entry(NamedTuple):
    """The record of a remembered id."""

    key: Key
    content: int
    origin: int
    date_s: int


def rows(entries: Iterable[Entry]) -> Entries:
    listed = list(entries)
    return entries_of(
        np.array([each.key for each in listed], np.uint64).reshape(-1, 2),
        np.array([each.content for each in listed], np.uint64),
        np.array([each.origin for each in listed], np.uint64),
        np.array([each.date_s for each in listed], np.uint32),
    )


def listed(found: Entries) -> list[Entry]:
    return [Entry(tuple(key), *rest) for key, *rest in found.tolist()]


def batch(entries: Iterable[Entry]) -> Batch:
    """Return the requests that would make these entries; of one date."""
    made = rows(entries)
    date_s = int(made["date_s"][0]) if len(made) else 0
    assert (made["date_s"] == date_s).all()
    keys = np.ascontiguousarray(made["key"])
    return Batch(date_s, keys, made["fingerprint"].copy(), made["origin"].copy())


def answers(judged: Judgement | Seen) -> list[tuple[Verdict, int]]:
    """Return a verdict and the first origin for each request."""
    both = zip(judged.verdicts.tolist(), judged.first_origins.tolist(), strict=True)
    return [(Verdict(verdict), origin) for verdict, origin in both]


def random_entries(count: int, seed: int = 0, date_s: int = 1_000, shared: int = 0) -> Entries:
    """Return entries of different ids; so many of them share their second word."""
    random = np.random.default_rng(seed)
    keys = random.integers(0, 2**64, (count, 2), np.uint64)
    keys[:shared, 1] = seed
    words = random.integers(1, 2**64, count, np.uint64)
    return entries_of(keys, words, words, np.full(count, date_s, np.uint32))


def hot(entries: Entries) -> HotIds:
    """Return them in memory; no two of one key."""
    ids = HotIds()
    ids.put(entries, np.full(len(entries), -1, np.int64))
    return ids


def write_run(path: Path, entries: Entries, number: int = 7) -> RunFacts:
    """Write a run; the entries come in any order, no two of one key."""
    ids = hot(entries)
    with RunWriter(path, len(ids), number) as writer:
        writer.append(ids.take(ids.order()))
        facts = writer.publish()
    assert facts is not None
    return facts


def look_up(run: Run, keys: Iterable[Key]) -> dict[int, Entry]:
    """Return what a run has of some keys, by their place."""
    wanted = np.array(list(keys), np.uint64).reshape(-1, 2)
    found = run.find(wanted, probes(wanted))
    columns = [column.tolist() for column in found]
    return {
        place: Entry((int(wanted[place][0]), int(wanted[place][1])), content, origin, date_s)
        for place, content, origin, date_s in zip(*columns, strict=True)
    }


class Inline(Background):
    """A worker that does each job at once."""

    def submit(self, job: Callable[[], None]) -> "Future[None]":
        future: Future[None] = Future()
        try:
            job()
        except Exception as error:  # noqa: BLE001  (as the thread does)
            future.set_exception(error)
        else:
            future.set_result(None)
        return future
