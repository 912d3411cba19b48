"""How this process was launched by `python -m bytewax.run`, and what must be true before it runs.

Bytewax calls `flow()` once it has read its own command line, and before it opens the recovery
store. That moment is ours: check the configuration, prepare and lock the recovery directory, take
the ports, take the signals. Nobody else calls `start`: tests and `bytewax.visualize` only build.
"""

import argparse
import atexit
import fcntl
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from bytewax.recovery import init_db_dir
from msgspec import Struct

from dataflow.errors import StartRefusedError
from dataflow.lifecycle import Lifecycle

_log = structlog.get_logger()


class Launch(Struct, frozen=True, kw_only=True):
    """The part of Bytewax's command line that concerns us."""

    recovery_dir: Path | None
    process_id: int
    processes: int
    workers: int
    """In each process."""

    @classmethod
    def read(cls, argv: Sequence[str], environ: Mapping[str, str]) -> "Launch":
        """From the arguments, which win, and the variables of `python -m bytewax.run`."""
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument(
            "-r", "--recovery-directory", default=environ.get("BYTEWAX_RECOVERY_DIRECTORY")
        )
        parser.add_argument(
            "-w",
            "--workers-per-process",
            type=int,
            default=environ.get("BYTEWAX_WORKERS_PER_PROCESS", "1"),
        )
        parser.add_argument(
            "-i", "--process-id", type=int, default=environ.get("BYTEWAX_PROCESS_ID")
        )
        parser.add_argument("-a", "--addresses", default=environ.get("BYTEWAX_ADDRESSES"))
        found, _ = parser.parse_known_args(list(argv))
        process_id, addresses = found.process_id, found.addresses
        # What Bytewax's own Helm chart and waxctl set instead.
        if process_id is None and {"BYTEWAX_POD_NAME", "BYTEWAX_STATEFULSET_NAME"} <= set(environ):
            stateful_set = environ["BYTEWAX_STATEFULSET_NAME"]
            process_id = int(environ["BYTEWAX_POD_NAME"].removeprefix(f"{stateful_set}-"))
        if process_id is not None and addresses is None and "BYTEWAX_HOSTFILE_PATH" in environ:
            lines = Path(environ["BYTEWAX_HOSTFILE_PATH"]).read_text().splitlines()
            addresses = ";".join(line.strip() for line in lines if line.strip())
        return cls(
            recovery_dir=Path(found.recovery_directory) if found.recovery_directory else None,
            process_id=process_id or 0,
            processes=len(addresses.split(";")) if addresses else 1,
            workers=found.workers_per_process,
        )


def launched_by_bytewax() -> bool:
    """Whether this process is `python -m bytewax.run`, and so is about to run the flow."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "bytewax.run"


def prepare_recovery(launch: Launch) -> int | None:
    """Lock the recovery directory for as long as the process lives, and fill an empty one.

    Every process makes the one recovery partition of its own number, so that together they make a
    complete set, whether they share a directory or each has its own.

    Returns:
        The lock's file descriptor; None without a recovery directory.

    Raises:
        StartRefusedError: it is in use, not writable, or not a directory.
    """
    directory = launch.recovery_dir
    if directory is None:
        _log.warning(
            "no recovery directory: no committed outcome is repeated after a restart, but the"
            " paymentIds seen before it are forgotten; set BYTEWAX_RECOVERY_DIRECTORY"
        )
        return None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / f".lock-{launch.process_id}", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartRefusedError(
            f"BYTEWAX_RECOVERY_DIRECTORY: cannot write to {directory}: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StartRefusedError(
            f"BYTEWAX_RECOVERY_DIRECTORY: {directory} is in use by another execution of this flow"
            f" (process id {launch.process_id}). Two of them would corrupt it; stop the other one,"
            " or give this one its own directory and its own KAFKA_GROUP_ID."
        ) from error
    _fill(directory, launch)
    return lock


def _fill(directory: Path, launch: Launch) -> None:
    mine = directory / f"part-{launch.process_id}.sqlite3"
    existing = list(directory.glob("part-*.sqlite3"))
    # A complete set stays as it is, however many processes there are now.
    if mine.exists() or (existing and _partition_count(existing[0]) != launch.processes):
        return
    with tempfile.TemporaryDirectory(dir=directory, prefix=".init-") as scratch:
        init_db_dir(scratch, launch.processes)  # type: ignore[no-untyped-call]
        (Path(scratch) / mine.name).rename(mine)
    _log.info("recovery directory initialised", directory=str(directory), partition=mine.name)


def _partition_count(partition: Path) -> int:
    import sqlite3  # noqa: PLC0415  (needed once, in a directory that is not empty)

    with sqlite3.connect(f"file:{partition}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT part_count FROM parts").fetchone()[0])


def restart_when_asked(lifecycle: Lifecycle) -> None:
    """When the flow has ended because the input has grown, run the same command again."""

    def again() -> None:
        if lifecycle.restart_wanted:
            sys.stdout.flush()
            sys.stderr.flush()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606

    atexit.register(again)
