"""The recovery directory: lost, old, damaged, full, not writable."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tests.chaos.catalogue import fault
from tests.chaos.scene import FILES, Scene
from tests.chaos.shapes import Ensemble, without_override
from tests.support.hooks.tuning import tuned

_STORE = "part-0.sqlite3"
_DAMAGED = "is not a usable recovery partition"
_PAGE = 4096
_POINTS = ["mid-batch", "flushed", "after-commit", "all-committed"]


def _crash_somewhere(scene: Scene) -> None:
    scene.crash(scene.rng.choice(_POINTS), scene.rng.randint(5, 40))


@fault("recovery directory deleted", "carries on from Kafka's offsets, and forgets nothing")
def _deleted(scene: Scene) -> None:
    for _ in range(2):
        _crash_somewhere(scene)
        shutil.rmtree(scene.recovery)
    scene.carry_on()


@fault("no recovery directory at all", "the same")
def _none(scene: Scene) -> None:
    without = {"BYTEWAX_RECOVERY_DIRECTORY": ""}
    for _ in range(2):
        scene.crash(scene.rng.choice(_POINTS), scene.rng.randint(5, 40), without)
    scene.carry_on(without)


@fault(
    "recovery directory restored from an old copy",
    "replays, repeats nothing, carries on",
    keeps_store=True,
)
def _old_copy(scene: Scene) -> None:
    scene.carry_on()
    old = scene.copy_store("old")
    for _ in range(2):
        _crash_somewhere(scene)
    scene.use_store(old)
    scene.carry_on()


@fault(
    "files of remembered ids damaged, or gone",
    "throws them away, reads the log instead, and forgets nothing",
    keeps_store=True,
)
def _damaged_ids(scene: Scene) -> None:
    """Damage files: a damaged block is met later, the process ends, and the next reads the log."""
    for _ in range(2):
        scene.crash(scene.rng.choice(_POINTS), scene.rng.randint(5, 40), tuned(FILES))
        paths = sorted((scene.recovery / "remembered-ids").rglob("*"))
        for path in [each for each in paths if each.is_file()]:
            _damage(path, scene.rng)
    scene.carry_on()


def _damage(path: Path, rng: Random) -> None:
    """Damage it, perhaps."""
    size = path.stat().st_size
    how = rng.choice(["not", "not", "delete", "cut", "flip"]) if size else "delete"
    if how == "delete":
        path.unlink()
    elif how == "cut":
        os.truncate(path, rng.randrange(size))
    elif how == "flip":
        # Header and filter: of a damaged block there is a test, as it ends a run.
        with path.open("r+b") as file:
            at = rng.choice([0, min(_PAGE, size - 1)])
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))


@fault(
    "recovery store cut short",
    "refuses, and says to start without; then it carries on, and forgets nothing",
    every=2,
    keeps_store=True,
)
def _cut_short(scene: Scene) -> None:
    """Cut it short after a clean stop: after a crash, SQLite's log beside it may have the rest."""
    scene.carry_on()
    store = scene.recovery / _STORE
    assert not list(scene.recovery.glob("*-wal")), "a clean stop leaves no log beside the store"
    # By a page at least: the end of the last one may have nothing in it.
    os.truncate(store, scene.rng.randint(0, store.stat().st_size - _PAGE))
    with scene.run() as flow:
        refusal = flow.refusal()
    assert _DAMAGED in refusal, refusal
    assert "Start with an empty directory" in refusal
    shutil.rmtree(scene.recovery)
    scene.carry_on()


@fault(
    "recovery store read-only",
    "refuses; once it can be written, it carries on",
    every=2,
    keeps_store=True,
)
def _read_only(scene: Scene) -> None:
    _crash_somewhere(scene)
    store = scene.recovery / _STORE
    store.chmod(0o400)
    with scene.run(prefix=without_override()) as flow:
        refusal = flow.refusal()
    assert _DAMAGED in refusal, refusal
    assert "it is not writable" in refusal
    store.chmod(0o600)
    scene.carry_on()


@fault(
    "recovery store at a limit of file size",
    "ends with the cause in the log; without the limit, the restart carries on",
    every=2,
    keeps_store=True,
)
def _file_limit(scene: Scene) -> None:
    """Limit the size of files: possible everywhere, unlike a full disk."""
    _crash_somewhere(scene)
    # SQLite's log is begun again by each run; it is folded into the store when it has 4 MB.
    limit = _PAGE * scene.rng.randint(32, 200)
    with scene.run(prefix=["prlimit", f"--fsize={limit}"]) as flow:
        _ended_by_the_store(flow)
    scene.carry_on()


@fault(
    "disk of the recovery store full",
    "ends with the cause in the log; with room again, the restart carries on",
    every=2,
    keeps_store=True,
)
def _disk_full(scene: Scene) -> None:
    if not can_mount():
        _file_limit(scene)
        return
    _crash_somewhere(scene)
    files = [path.stat().st_size for path in scene.recovery.rglob("*")]
    pages = sum(-(-size // _PAGE) for size in files) + scene.rng.randint(8, 60)
    with _small_disk(scene, pages * _PAGE) as directory:
        shutil.copytree(scene.recovery, directory / "recovery")
        recovery = {"BYTEWAX_RECOVERY_DIRECTORY": str(directory / "recovery")}
        with scene.run(recovery) as flow:
            flow.wait_until_ready_or_ended()
            # Something else takes the room, also that of files which the flow deletes.
            flow.wait(lambda: _ended_without_room(flow, directory), "out of room")
            _ended_by_the_store(flow)
        assert "bytes are free on the disk of" in flow.log, flow.log
        _mount("-o", "remount,size=1g", str(directory))
        scene.carry_on(recovery)
        shutil.rmtree(scene.recovery)
        shutil.copytree(directory / "recovery", scene.recovery)


def _ended_without_room(flow: Ensemble, disk: Path) -> bool:
    """Fill the disk, and return whether a process has ended."""
    with suppress(OSError), (disk / "other files").open("ab", buffering=0) as other:
        while True:
            other.write(bytes(_PAGE))
    return flow.ended


def _ended_by_the_store(flow: Ensemble) -> None:
    codes = flow.wait_for_end()
    assert 0 not in codes, f"exit codes {codes}:\n{flow.log}"
    # In a cluster the engine only reports that one of its threads has panicked.
    causes = ["disk is full", "disk I/O error", "No space left on device", "File too large"]
    causes += ["PanicException"] * (len(codes) > 1)
    assert any(each in flow.log for each in causes), flow.log


@contextmanager
def _small_disk(scene: Scene, size: int) -> Iterator[Path]:
    directory = scene.new_directory("disk")
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@cache
def can_mount() -> bool:
    """Return whether this machine lets us make a small disk; few containers do."""
    with TemporaryDirectory() as directory:
        try:
            _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", directory)
        except (subprocess.CalledProcessError, FileNotFoundError):
            return False
        subprocess.run(["umount", directory], check=True)
        return True


def _mount(*args: str) -> None:
    subprocess.run(["mount", *args], check=True, capture_output=True)
