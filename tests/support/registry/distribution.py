"""Apicurio's distribution, fetched once by Maven, checked, and unpacked into `.tools/`."""

import fcntl
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests import ROOT
from tests.support.kafka.distribution import FetchError, archive_in, java

VERSION = "2.6.13.Final"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_SHA256 = "3cda1b34aa020fb4ac4dd6a66018d757e81e437f97e20a1f92d366b70091c6ba"
_STORE = (ROOT / ".tools").resolve()
_DIRECTORY = _STORE / f"apicurio-{VERSION}"
_TIMEOUT_S = 600.0


def missing() -> str | None:
    """Return what this machine lacks to run it, or None if it can."""
    try:
        java()
    except FetchError as error:
        return f"{error} (the schema registry needs Java 17 or newer)"
    if not _DIRECTORY.exists() and shutil.which("mvn") is None:
        return "no Maven on PATH to fetch the schema registry with"
    return None


def jar() -> Path:
    """Return the jar that starts it, fetching it first if it is not there.

    Safe against other processes that do the same: one fetches, the others wait for it.

    Raises:
        FetchError: Maven cannot bring it, or brings something else.
    """
    if not _DIRECTORY.exists():
        _STORE.mkdir(exist_ok=True)
        with (_STORE / "apicurio.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _DIRECTORY.exists():
                _fetch()
    return _DIRECTORY / f"apicurio-registry-app-{VERSION}-runner.jar"


def archive() -> Path:
    """Return where the classes are kept, parsed and verified: a fifth of the work of a start."""
    return archive_in(_DIRECTORY)


def _fetch() -> None:
    """Unpack into a directory of its own and rename it, so that a half-done one is never used."""
    partial = _STORE / "apicurio.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={_ARTIFACT}"]
    command += [f"-DoutputDirectory={partial}", "-Dmdep.useBaseVersion=true"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        timeout=_TIMEOUT_S, cwd=partial,
    )  # fmt: skip
    archives = [*partial.glob("*.tar.gz")]
    if done.returncode != 0 or len(archives) != 1:
        first = (done.stdout + done.stderr).strip().partition("\n")[0]
        raise FetchError(f"Maven could not fetch {_ARTIFACT}: {first}")
    [archive] = archives
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != _SHA256:
        raise FetchError(f"{_ARTIFACT} has the checksum {found}, expected {_SHA256}")
    with tarfile.open(archive) as packed:
        packed.extractall(partial, filter="data")
    archive.unlink()
    partial.rename(_DIRECTORY)
