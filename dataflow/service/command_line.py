"""The launch of this process by `python -m bytewax.run`, and what must be true before it runs.

Bytewax calls `flow()` once it has read its own command line, and before it opens the recovery
store. That moment is ours: check the configuration, prepare and lock the recovery directory, take
the ports, take the signals. Nobody else calls `start`: tests and `bytewax.visualize` only build.
"""

import argparse
import atexit
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from msgspec import Struct

from dataflow.service.shutdown import Lifecycle

_log = structlog.get_logger()


class Launch(Struct, frozen=True, kw_only=True):
    """The part of Bytewax's command line that concerns us."""

    recovery_dir: Path | None
    process_id: int
    processes: int
    workers: int
    """In each process."""
    snapshot_interval_s: int
    """The least length of an epoch; nothing or less is an epoch for every batch."""
    backup_interval_s: int
    """The time the recovery store keeps snapshots that are no longer needed to resume."""

    @property
    def store_bytes(self) -> int:
        """The size of the recovery store that this process is to load; 0 if it has none."""
        if self.recovery_dir is None or self.process_id > 0:
            return 0
        return sum(path.stat().st_size for path in self.recovery_dir.glob("part-*.sqlite3"))

    @classmethod
    def read(cls, argv: Sequence[str], environ: Mapping[str, str]) -> "Launch":
        """Read the arguments, which win, and the variables of `python -m bytewax.run`."""
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument(
            "-r", "--recovery-directory", default=environ.get("BYTEWAX_RECOVERY_DIRECTORY")
        )
        parser.add_argument(
            "-s",
            "--snapshot-interval",
            type=int,
            default=environ.get("BYTEWAX_SNAPSHOT_INTERVAL", "10"),
        )
        parser.add_argument(
            "-b",
            "--backup-interval",
            type=int,
            default=environ.get("BYTEWAX_RECOVERY_BACKUP_INTERVAL", "0"),
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
            snapshot_interval_s=found.snapshot_interval,
            backup_interval_s=found.backup_interval,
        )


def launched_by_bytewax() -> bool:
    """Return whether this process is `python -m bytewax.run`, and so is about to run the flow."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "bytewax.run"


def make_every_batch_an_epoch(launch: Launch) -> None:
    """Run the same command again with a snapshot interval that has no length, unless it has one.

    The engine takes whole seconds only, 10 of them by default, and has read its command line before
    any of our code runs. `COMMIT_INTERVAL` paces the batches instead. Without a recovery directory
    `bytewax.run` takes 0 for no choice at all, which is 10 s, so there it has to be less than 0.
    """
    wanted_s = -1 if launch.recovery_dir is None else 0
    if launch.snapshot_interval_s <= wanted_s:
        return
    _log.info(
        f"the process runs itself again with `-s {wanted_s}`: COMMIT_INTERVAL paces the epochs."
        f" BYTEWAX_SNAPSHOT_INTERVAL={wanted_s} avoids this",
        snapshot_interval_s=launch.snapshot_interval_s,
    )
    _run_again("-s", str(wanted_s))


def restart_when_asked(lifecycle: Lifecycle) -> None:
    """Run the same command again when the flow has ended because the input has grown."""

    def again() -> None:
        if lifecycle.restart_wanted:
            _run_again()

    atexit.register(again)


def _run_again(*more: str) -> None:
    """Become the same command, with more arguments; of an argument given twice the last counts."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], *more])  # noqa: S606
