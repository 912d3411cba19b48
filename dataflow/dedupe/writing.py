"""Files that are there as a whole or not at all: written beside, synced, renamed."""

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

TEMPORARY = ".tmp"
"""The suffix of a file that is being written; at a start such a file belongs to no process."""
_RESERVE_SHARE = 20
_RESERVE_MOST_BYTES = 1024**3
"""The space that a large file leaves free: a twentieth of the volume, but no more than this. The
recovery store may be on the same volume, and a process cannot go on when that cannot be written."""
_SYNC_BYTES = 32 * 1024 * 1024
"""The most bytes that wait to be synced: a large file must not hold up what others sync."""


class NewFile:
    """A file in the making. As a context manager it is removed unless it was published.

    Args:
        path: Its name once it is complete.
        size_bytes: The space to reserve, so that a full disk is noticed before anything is written.

    Raises:
        OSError: from here and from each method, if the disk is full or failing.
    """

    def __init__(self, path: Path, size_bytes: int = 0) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + TEMPORARY)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file = os.open(self._temporary, flags, 0o600)
        self._published = False
        self._unsynced = 0
        try:
            if size_bytes:
                _leave_room(path.parent, size_bytes)
                _reserve(self._file, size_bytes)
        except OSError:
            self._discard()
            raise

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of it."""
        rest = memoryview(data)
        self._unsynced += len(rest)
        while rest:
            written = os.pwrite(self._file, rest, offset)
            rest, offset = rest[written:], offset + written
        if self._unsynced >= _SYNC_BYTES:
            os.fdatasync(self._file)
            self._unsynced = 0

    def publish(self, size_bytes: int) -> None:
        """Cut it to its size, and let it be seen under its name."""
        os.ftruncate(self._file, size_bytes)
        os.fsync(self._file)
        self._temporary.rename(self._path)
        self._published = True
        sync_directory(self._path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._published:
            os.close(self._file)
        else:
            self._discard()

    def _discard(self) -> None:
        os.close(self._file)
        remove(self._temporary)


def write_whole(path: Path, data: bytes) -> None:
    """Replace a small file."""
    with NewFile(path) as file:
        file.write(data, 0)
        file.publish(len(data))


def remove(path: Path) -> bool:
    """Delete a file, if that is possible; if not, a later start does. Return if it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _leave_room(directory: Path, size_bytes: int) -> None:
    volume = os.statvfs(directory)
    free_bytes, all_bytes = (n * volume.f_frsize for n in (volume.f_bavail, volume.f_blocks))
    if free_bytes - size_bytes < min(all_bytes // _RESERVE_SHARE, _RESERVE_MOST_BYTES):
        raise OSError(errno.ENOSPC, "too little room would be left on the volume", str(directory))


def _reserve(file: int, size_bytes: int) -> None:
    try:
        os.posix_fallocate(file, 0, size_bytes)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise  # else the file system cannot, and a full disk is noticed later
