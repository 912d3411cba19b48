"""Where bytes wait that are hardly ever asked for: in files, so that they take no memory.

The files mean something only to the process that has written them. They are never synced: when it
crashes they are worthless, and the next run deletes them.
"""

import os
import shutil
from pathlib import Path
from zlib import crc32


class Spooled:
    """Bytes that were put away."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._length, self._checksum = len(data), crc32(data)
        path.write_bytes(data)

    def read(self) -> bytes:
        """Get them back; may be done again.

        Raises:
            RuntimeError: the file is not what was written.
        """
        data = self._path.read_bytes()
        if (len(data), crc32(data)) != (self._length, self._checksum):
            raise RuntimeError(f"{self._path} was changed by somebody else; start again")
        return data

    def drop(self) -> None:
        """Nobody asks for them any more."""
        self._path.unlink(missing_ok=True)


class Spool:
    """The files of one process; safe to share by threads.

    Args:
        directory: Made when it is first used; what a previous run has left in it is deleted.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        shutil.rmtree(directory, ignore_errors=True)

    def put(self, name: str, data: bytes) -> Spooled:
        """Put bytes away under a name of their own."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        return Spooled(self._directory / name.replace(os.sep, "-"), data)
