"""The baselines, built once into `.bench/`, with pip, Maven and npm; all versions are pinned."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from tests import ROOT

HERE = Path(__file__).parent
BASELINES = HERE / "baselines"
STORE = ROOT / ".bench"
PYTHON = STORE / "venv" / "bin" / "python"
STREAMS = STORE / "streams"
KAFKAJS = STORE / "kafkajs"
_NEEDED = {
    "javac": "a JDK, 17 or newer",
    "mvn": "Maven",
    "node": "Node.js, 18 or newer",
    "npm": "npm",
}


class BuildError(Exception):
    """A baseline could not be built; the message has the end of what the tool printed."""


def prepare(say: Callable[[str], None]) -> None:
    """Build what is not there yet; ends the process when a tool is missing, or fails."""
    if lacking := missing(*_NEEDED):
        sys.exit(f"the baselines need {lacking}; without them: make bench ARGS=--only=product")
    streams = BASELINES / "streams"
    try:
        _once("venv", [HERE / "requirements.txt"], _make_venv, say)
        _once("streams", sorted(p for p in streams.rglob("*") if p.is_file()), _make_streams, say)
        kafkajs(say)
    except BuildError as error:
        sys.exit(str(error))


def missing(*tools: str) -> str:
    """Return which of some tools this machine lacks, in words; empty when it has them all."""
    return ", ".join(_NEEDED[tool] for tool in tools if shutil.which(tool) is None)


def kafkajs(say: Callable[[str], None]) -> Path:
    """Install KafkaJS if it is not there yet; the directory that has its `node_modules`.

    Raises:
        BuildError: npm could not bring it.
    """
    _once("kafkajs", sorted((BASELINES / "kafkajs").iterdir()), _make_kafkajs, say)
    return KAFKAJS


def packages(name: str, lock: Path, say: Callable[[str], None]) -> Path:
    """Install the packages of an npm lock if they are not there yet; where `node_modules` is.

    Args:
        name: Of the directory in `.bench`.
        lock: A directory with `package.json` and `package-lock.json`.
        say: Receives a line if something is to be installed.

    Raises:
        BuildError: npm could not bring them.
    """
    files = [lock / "package.json", lock / "package-lock.json"]

    def make() -> None:
        (STORE / name).mkdir()
        for file in files:
            shutil.copy(file, STORE / name)
        _npm_ci(STORE / name)

    _once(name, files, make, say)
    return STORE / name


def _once(
    name: str, sources: list[Path], make: Callable[[], None], say: Callable[[str], None]
) -> None:
    """Make one of them, unless it is there as its sources want it; other processes wait."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = STORE / f"{name}.sha256"
    STORE.mkdir(exist_ok=True)
    with (STORE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == digest:
            return
        say(f"building {name}, once")
        shutil.rmtree(STORE / name, ignore_errors=True)
        make()
        stamp.write_text(digest)


def _make_venv() -> None:
    venv.create(STORE / "venv", with_pip=True)
    options = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
    _run(str(PYTHON), "-m", "pip", "install", "-q", *options, "-r", str(HERE / "requirements.txt"))


def _make_streams() -> None:
    pom = BASELINES / "streams" / "pom.xml"
    _run("mvn", "-q", "-B", "-f", str(pom), f"-Dbench.target={STREAMS}", "package")


def _make_kafkajs() -> None:
    shutil.copytree(BASELINES / "kafkajs", KAFKAJS)
    _npm_ci(KAFKAJS)


def _npm_ci(directory: Path) -> None:
    options = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
    _run("npm", "ci", *options, "--prefix", str(directory))


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    if done.returncode != 0:
        message = f"{command[0]} failed:\n{done.stdout[-3000:]}"
        raise BuildError(message)
