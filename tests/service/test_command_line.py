"""The command line, and the recovery directory when it fails; the rest needs a real Kafka."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataflow.recovery.store import full_disk
from dataflow.service.command_line import Launch, make_every_batch_an_epoch


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


def command_run_again(
    argv: list[str], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> list[str] | None:
    """Return the arguments with which the process replaces itself, if it does."""
    ran: list[str] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: ran.extend(arguments))
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "bytewax.run", "x", *argv])
    make_every_batch_an_epoch(Launch.read(argv, environ))
    return ran or None


@pytest.mark.parametrize(
    ("argv", "environ", "wanted"),
    [
        (["-r", "store"], {}, "0"),
        ([], {"BYTEWAX_RECOVERY_DIRECTORY": "store", "BYTEWAX_SNAPSHOT_INTERVAL": "1"}, "0"),
        (["-r", "store", "-s", "30"], {"BYTEWAX_SNAPSHOT_INTERVAL": "0"}, "0"),
        ([], {}, "-1"),
        ([], {"BYTEWAX_SNAPSHOT_INTERVAL": "1"}, "-1"),
        # Which Bytewax would take for its default of 10 s.
        (["--snapshot-interval", "0"], {}, "-1"),
    ],
)
def test_a_snapshot_interval_makes_the_process_run_itself_again_without(
    argv: list[str], environ: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = command_run_again(argv, environ, monkeypatch)
    assert again == [sys.executable, "-m", "bytewax.run", "x", *argv, "-s", wanted]
    # Once: then it is as wanted, whatever the variable is.
    assert command_run_again(again[4:], environ, monkeypatch) is None


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        (["-r", "store"], {"BYTEWAX_SNAPSHOT_INTERVAL": "0"}),
        (["-r", "store", "-s", "0"], {"BYTEWAX_SNAPSHOT_INTERVAL": "9"}),
        (["-r", "store", "-s", "-1"], {}),
        ([], {"BYTEWAX_SNAPSHOT_INTERVAL": "-1"}),
    ],
)
def test_an_epoch_for_every_batch_is_what_it_runs_with(
    argv: list[str], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command_run_again(argv, environ, monkeypatch) is None


def hint_with_free(blocks: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Return the hint when so many blocks of 4096 bytes are free."""
    disk = SimpleNamespace(f_bavail=blocks, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    return full_disk(Launch.read(["-r", str(directory)], {}))


@pytest.mark.parametrize("blocks", [0, 16383])
def test_a_full_disk_is_reported(
    blocks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hint_with_free(blocks, tmp_path, monkeypatch) == (
        f"BYTEWAX_RECOVERY_DIRECTORY: only {blocks * 4096} bytes are free on the disk of"
        f" {tmp_path}; free some space, then start again: nothing is lost"
    )


def test_nothing_is_reported_with_room_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hint_with_free(16384, tmp_path, monkeypatch) is None


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    hint = full_disk(Launch.read(["-r", str(tmp_path / "gone")], {}))
    assert hint == (
        f"BYTEWAX_RECOVERY_DIRECTORY: cannot read {tmp_path / 'gone'}: No such file or directory"
    )


def test_nothing_is_reported_without_a_directory() -> None:
    assert full_disk(Launch.read([], {})) is None
