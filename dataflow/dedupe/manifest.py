"""The manifest of a lane's files: which runs there are, and what position in the log they reach.

A text file: a checksum, and a JSON object. It is replaced as a whole, after the runs that it names
are durable, and before any that it does not name are deleted. What it states stays true for ever:
*every entry of the lane below `position` is in these runs, if they are all there*. So an old copy
of it is no danger, and neither is a process that has lost its lane and still writes one.
"""

from pathlib import Path
from zlib import crc32

import msgspec

from dataflow.dedupe import run_format
from dataflow.dedupe.writing import write_whole

FILE_NAME = "manifest"

Position = dict[int, int]
"""By partition of the log, an offset. One that is not in it is to be read from its start."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The log whose cache the files are."""

    cluster: str
    """Kafka's id of the cluster."""
    topic: str
    """Kafka's id of the log's topic: another one if the topic was made again."""
    lane: int
    lanes: int
    """The number of lanes: with another number a lane has other ids."""


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as the manifest has it."""

    name: str
    check: int
    """`RunFacts.check`: it stands for all of the file but its blocks, which have their own."""
    since: Position
    """None of its entries stands below this in the log."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about the ids below the position, without a look at them."""

    horizon_s: int = 0
    """Ids dated before were forgotten: they may be missing from the runs."""
    span_s: int = 0
    counts: dict[int, int] = {}
    """See `dataflow.core.id_counts`."""
    uncounted_s: int = -1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    format: int = run_format.FORMAT
    owner: Owner
    summary: Summary
    position: Position
    runs: list[RunLine]


class _Version(msgspec.Struct):
    format: int


# Made here, not at their first use, which may be by several workers at once: see
# `dataflow.core.state`.
_decode_version = msgspec.json.Decoder(_Version).decode
_decode_manifest = msgspec.json.Decoder(Manifest).decode


class UnusableManifestError(Exception):
    """There is a manifest that is not to be believed; `str` gives the reason."""


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest; raises `OSError` if the disk is full or failing."""
    data = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
    write_whole(directory / FILE_NAME, b"%08x\n" % crc32(data) + data)


def read_manifest(directory: Path, owner: Owner) -> Manifest | None:
    """Read the manifest; None if there is none.

    Raises:
        UnusableManifestError: it cannot be read, is damaged, or is about something else.
    """
    try:
        data = (directory / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableManifestError(f"cannot be read: {error.strerror}") from error
    check, _, body = data.partition(b"\n")
    if check != b"%08x" % crc32(body):
        raise UnusableManifestError("is damaged")
    try:
        version = _decode_version(body).format
        if version != run_format.FORMAT:
            raise UnusableManifestError(f"has format {version}, not {run_format.FORMAT}")
        manifest = _decode_manifest(body)
    except msgspec.DecodeError as error:
        raise UnusableManifestError(f"has other fields: {error}") from error
    if manifest.owner != owner:
        raise UnusableManifestError(f"is of {manifest.owner}, not of {owner}")
    return manifest


def lowest(positions: list[Position]) -> Position:
    """Return the position below all of these: only partitions that each of them has."""
    common = set.intersection(*map(set, positions)) if positions else set()
    return {each: min(position[each] for position in positions) for each in sorted(common)}
