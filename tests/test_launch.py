"""What is said of the recovery directory when it fails; the rest needs a real Kafka."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataflow.launch import Launch, full_disk


@pytest.mark.parametrize(
    ("argv", "environ", "kept_s"),
    [
        ([], {}, 0),
        ([], {"BYTEWAX_RECOVERY_BACKUP_INTERVAL": "60"}, 60),
        (["-b", "30"], {"BYTEWAX_RECOVERY_BACKUP_INTERVAL": "60"}, 30),
        (["--backup-interval", "5"], {}, 5),
    ],
)
def test_the_backup_interval_is_read_as_bytewax_reads_it(
    argv: list[str], environ: dict[str, str], kept_s: int
) -> None:
    assert Launch.read(argv, environ).backup_interval_s == kept_s


def hint_with_free(blocks: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What is said when so many blocks of 4096 bytes are free."""
    disk = SimpleNamespace(f_bavail=blocks, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    return full_disk(Launch.read(["-r", str(directory)], {}))


@pytest.mark.parametrize("blocks", [0, 16383])
def test_a_full_disk_is_told(blocks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hint_with_free(blocks, tmp_path, monkeypatch) == (
        f"BYTEWAX_RECOVERY_DIRECTORY: only {blocks * 4096} bytes are free on the disk of"
        f" {tmp_path}; make room, then start again: nothing is lost"
    )


def test_with_room_left_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hint_with_free(16384, tmp_path, monkeypatch) is None


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    hint = full_disk(Launch.read(["-r", str(tmp_path / "gone")], {}))
    assert hint == (
        f"BYTEWAX_RECOVERY_DIRECTORY: cannot look at {tmp_path / 'gone'}: No such file or directory"
    )


def test_without_a_directory_nothing_is_told() -> None:
    assert full_disk(Launch.read([], {})) is None
