"""Apache Kafka's jars, as `pom.xml` pins them, fetched once into `.kafka/` by Maven.

`KAFKA_TEST_VERSION` names another version; `oldest` is the oldest that the product supports.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET

from tests import ROOT

POM = Path(__file__).with_name("pom.xml")
STORE = (ROOT / ".kafka").resolve()
"""Without links: the archive fits jars of the same paths only."""
MIN_JAVA = 17
OLDEST = "3.9.2"
"""The oldest line of Apache Kafka that the product supports, by its last release."""
VERSION = "KAFKA_TEST_VERSION"
FETCH_TIMEOUT_S = 600.0


class FetchError(Exception):
    """Maven could not bring the jars; the message has its first complaint."""


def version() -> str:
    """Return the Apache Kafka version of the tests: what `pom.xml` pins, if no other is given."""
    named = os.environ.get(VERSION)
    return OLDEST if named == "oldest" else named or newest()


def newest() -> str:
    """Return the version that `pom.xml` pins."""
    # Our own file, so the parser's weakness against hostile XML does not matter.
    node = ET.parse(POM).find(".//{*}kafka.version")  # noqa: S314
    if node is None or not node.text:
        message = f"{POM} has no kafka.version property"
        raise FetchError(message)
    return node.text


def java() -> str:
    """Return the path of the Java launcher: JAVA_HOME's, else the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found is None:
        raise FetchError("no Java on PATH and none in JAVA_HOME")
    return found


def missing() -> str | None:
    """Return what this machine lacks to run a broker, or None when it can."""
    try:
        launcher = java()
    except FetchError as error:
        return f"{error} (Apache Kafka needs Java {MIN_JAVA} or newer)"
    shown = subprocess.run([launcher, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', shown.stderr)
    if found is None or int(found[1]) < MIN_JAVA:
        first = shown.stderr.partition("\n")[0]
        return f"Apache Kafka needs Java {MIN_JAVA} or newer, {launcher} says: {first}"
    if not _present() and shutil.which("mvn") is None:
        return "no Maven on PATH to fetch Apache Kafka with"
    return None


def jars() -> Path:
    """Return the directory of the jars, fetching them first if they are not there.

    Safe against other processes that do the same: one fetches, the others wait for it.
    """
    if not _present():
        STORE.mkdir(exist_ok=True)
        with (STORE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _present():
                _fetch()
    return _directory()


def compiled(source: Path) -> Path:
    """Return where the classes of a Java program are, which is compiled against the jars once.

    To compile it takes longer than to run it. Safe against other processes that do the same.

    Raises:
        FetchError: It cannot be compiled.
    """
    digest = hashlib.sha256(source.read_bytes() + archive().name.encode()).hexdigest()
    classes = jars() / f"{source.stem}-{digest[:12]}"
    if not classes.exists():
        with tempfile.TemporaryDirectory(dir=jars(), ignore_cleanup_errors=True) as partial:
            command = [java(), "-m", "jdk.compiler/com.sun.tools.javac.Main"]
            # Only the launcher of programs knows what `*` is.
            command += ["-cp", ":".join(map(str, jars().glob("*.jar")))]
            command += ["-d", f"{partial}/classes", str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise FetchError(f"{source} cannot be compiled:\n{done.stdout}{done.stderr}")
            with suppress(OSError):  # another process was quicker
                Path(partial, "classes").rename(classes)
    return classes


def archive() -> Path:
    """Return where `archive` keeps the classes of these jars for this Java."""
    return archive_in(_directory())


def archive_in(directory: Path) -> Path:
    """Return where a directory of jars keeps their classes for this Java."""
    launcher = Path(java()).resolve()
    made_by = hashlib.sha256(f"{launcher} {launcher.stat().st_mtime_ns}".encode()).hexdigest()
    return directory / f"classes-{made_by[:12]}.jsa"


def _directory() -> Path:
    return STORE / f"lib-{version()}"


def _present() -> bool:
    stamp = _directory() / "pom.sha256"
    return stamp.exists() and stamp.read_text() == _pom_hash()


def _pom_hash() -> str:
    return hashlib.sha256(POM.read_bytes()).hexdigest()


def _fetch() -> None:
    """Fetch into a directory of its own and rename it, so that a half-done one is never used."""
    partial = STORE / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    # The backend of 3.9's own logging, which ours is instead of.
    command += [f"-Dkafka.version={version()}", "-DexcludeArtifactIds=slf4j-reload4j,reload4j"]
    log = STORE / "maven.log"
    with log.open("wb") as output:
        maven = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = _wait(maven)
        finally:
            maven.kill()
            maven.wait()
    if code != 0:
        said = re.search(r"\[ERROR\] (.*)", log.read_text(errors="replace"))
        why = said[1] if said else f"exit code {code}"
        message = f"Maven could not fetch Apache Kafka (see {log}): {why}"
        raise FetchError(message)
    (partial / "pom.sha256").write_text(_pom_hash())
    shutil.rmtree(_directory(), ignore_errors=True)
    partial.rename(_directory())


def _wait(maven: subprocess.Popen[bytes]) -> int:
    """Wait for Maven with one line of progress, rewritten in place on a terminal."""
    what = f"Fetching Apache Kafka {version()} with Maven (about 45 MB, once)"
    start = time.monotonic()
    terminal = sys.stderr.isatty()
    if not terminal:
        _say(f"{what}\n")
    while True:
        elapsed = time.monotonic() - start
        try:
            code = maven.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if elapsed > FETCH_TIMEOUT_S:
                raise FetchError(f"{what}: not done after {FETCH_TIMEOUT_S:.0f} s") from None
            if terminal:
                _say(f"\r{what} ... {elapsed:.0f} s ")
            continue
        if terminal:
            _say("\n")
        return code


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
