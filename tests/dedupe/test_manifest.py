"""A manifest is believed only if it is whole and about this lane of this log."""

from pathlib import Path

import msgspec
import pytest

from dataflow.dedupe.manifest import (
    FILE_NAME,
    Manifest,
    Owner,
    RunLine,
    Summary,
    UnusableManifestError,
    lowest,
    read_manifest,
    write_manifest,
)
from tests.dedupe.remembered import OWNER
from tests.support import first_uses

MANIFEST = Manifest(
    owner=OWNER,
    summary=Summary(horizon_s=5, span_s=2, counts={4: 10**9}, uncounted_s=3),
    position={0: 2**40, 5: 0},
    runs=[RunLine(name="a.run", check=2**32 - 1, since={0: 12})],
)


def test_written_entries_are_read(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path, OWNER) == MANIFEST


def test_none_is_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path, OWNER) is None
    assert read_manifest(tmp_path / "missing", OWNER) is None


@pytest.mark.parametrize(
    "other",
    [{"cluster": "kafka-2"}, {"topic": "topic-2"}, {"lane": 4}, {"lanes": 8}],
)
def test_a_foreign_one_is_refused(tmp_path: Path, other: dict[str, str | int]) -> None:
    foreign: Owner = msgspec.structs.replace(OWNER, **other)
    write_manifest(tmp_path, msgspec.structs.replace(MANIFEST, owner=foreign))
    with pytest.raises(UnusableManifestError, match="is of"):
        read_manifest(tmp_path, OWNER)


def test_another_format_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, msgspec.structs.replace(MANIFEST, format=2))
    with pytest.raises(UnusableManifestError, match="format 2, not 1"):
        read_manifest(tmp_path, OWNER)


def test_every_wrong_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UnusableManifestError):
            read_manifest(tmp_path, OWNER)
        path.write_bytes(whole[:at])
        with pytest.raises(UnusableManifestError):
            read_manifest(tmp_path, OWNER)


def test_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(UnusableManifestError, match="cannot be read"):
        read_manifest(tmp_path, OWNER)


def test_the_lowest_position_has_only_partitions_that_all_of_them_have() -> None:
    assert lowest([{0: 5, 1: 7, 2: 1}, {1: 3, 0: 9}]) == {0: 5, 1: 3}
    assert lowest([]) == {}


SEVERAL_LANES = """
from pathlib import Path
from tempfile import mkdtemp
from dataflow.dedupe.manifest import read_manifest, write_manifest
from tests.dedupe.test_manifest import MANIFEST, OWNER
directory = Path(mkdtemp(dir={directory!r}))
write_manifest(directory, MANIFEST)
"""


def test_several_workers_may_read_the_first_manifests_at_once(tmp_path: Path) -> None:
    setup = SEVERAL_LANES.format(directory=str(tmp_path))
    first_uses.assert_safe(setup, "read_manifest(directory, OWNER)")
