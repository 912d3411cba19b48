"""The real Kafka that integration tests ask for, and no silence about what was not tested.

A test asks by a fixture: `kafka` for any Kafka, `kafka_control` for one that it may stop, kill and
pause, `secure_kafka` for one with TLS and a login. That gives it the marker `kafka`. Where there
is no Kafka available, such tests are skipped and named at the end; with CI=true every skip, of
these tests or of others, is a failure. The fixture `registry` gives a schema registry, likewise.
"""

import fcntl
import functools
import logging
import os
import subprocess
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from dataflow.config.variables import VARIABLES
from dataflow.fake_provider.process import FakeProvider
from tests.explore import load_profile
from tests.support.kafka import Broker, Cluster, SecureBroker, archive, distribution, ports
from tests.support.kafka.broker import memory
from tests.support.registry import Registry, RegistryError
from tests.support.registry import distribution as registry_distribution
from tests.support.registry import prepare as prepare_registry
from tests.support.registry import shared as shared_registry

BROKERS = "KAFKA_TEST_BROKERS"


def _forget_leftovers() -> None:
    """Take from the environment what is there for the product, and would reach it in the tests."""
    names = {name for each in VARIABLES for name in (each.name, f"{each.name}_FILE", each.synonym)}
    for name in list(os.environ):
        is_of_the_tests = name in {BROKERS, distribution.VERSION}
        if (name in names or name.startswith(("KAFKA_", "BYTEWAX_"))) and not is_of_the_tests:
            del os.environ[name]
    # Nothing that a test starts is behind a proxy.
    for name in ("no_proxy", "NO_PROXY"):
        kept = os.environ.get(name)
        os.environ[name] = ",".join([*([kept] if kept else []), "localhost", "127.0.0.1"])


def _keep_off_the_disk() -> None:
    """Have the tests' temporary files in memory, for the reason that the brokers' are there."""
    if root := memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(root))


_forget_leftovers()
_keep_off_the_disk()
load_profile()

EXTERNAL = os.environ.get(BROKERS)
CI = os.environ.get("CI") == "true"
FIXTURES = frozenset({"kafka", "kafka_control", "secure_kafka"})
FORBIDDEN = "skipped, which CI does not allow: "


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """Take back what a test has configured: a command, for one, logs errors only."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if structlog.is_configured():
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def kafka() -> Iterator[Cluster]:
    """Yield a shared Kafka for the whole run: a `Broker`, or the one in KAFKA_TEST_BROKERS."""
    if EXTERNAL:
        cluster = Cluster(EXTERNAL)
        cluster.admin().list_topics(timeout=10)
        yield cluster
    else:
        with Broker.start() as broker:
            yield broker


@pytest.fixture
def kafka_control(kafka: Cluster) -> Iterator[Broker]:
    """Yield the same Kafka as `kafka`, for tests that disturb it; made well again afterwards."""
    if not isinstance(kafka, Broker):
        pytest.skip("stops or pauses the broker, and the one in KAFKA_TEST_BROKERS is not ours")
    yield kafka
    kafka.heal()


@pytest.fixture(scope="session")
def secure_kafka() -> Iterator[SecureBroker]:
    """Yield a shared broker of our own with a SASL_SSL listener."""
    with SecureBroker.start() as broker:
        yield broker


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Yield a shared schema registry, one for all processes of the run."""
    with closing(shared_registry(tmp_path_factory.getbasetemp())) as found:
        yield found


@pytest.fixture(scope="session")
def fake_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    """Yield a shared payment provider in a process of its own; tests take `provider`."""
    book = tmp_path_factory.mktemp("provider") / "book.sqlite"
    with FakeProvider(book, ports.free(2, for_good=True)) as provider:
        yield provider


@pytest.fixture
def provider(fake_provider: FakeProvider) -> Iterator[FakeProvider]:
    """Yield a provider that does everything right, until the test changes that."""
    yield fake_provider
    fake_provider.heal()


@pytest.fixture(scope="session")
def compiler() -> None:
    """Require the Java compiler, which a JRE lacks; `java File.java` runs it by itself."""
    command = [distribution.java(), "--list-modules"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "jdk.compiler" not in modules:
        pytest.skip("a Java consumer needs a JDK, 17 or newer; there is a JRE only")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let one process of a parallel run collect first: it compiles the tests for all of them."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with Path(__file__).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)  # once the first one has ended
        return (yield)


@pytest.hookimpl(wrapper=True)  # markers are set before `-m` selects by them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    for item in items:
        if FIXTURES.intersection(_fixtures(item)):
            item.add_marker("kafka")
    _mark_further_cases(items)
    yield
    items[:] = _slow_ones_first(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch Kafka now, not in a fixture: there it would count towards a test's timeout."""
    if not session.config.option.collectonly and any(map(_needs_own, session.items)):
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            _lacking()
    if not session.config.option.collectonly and any(map(_needs_registry, session.items)):
        _lacking_registry()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for needs, lacking in ((_needs_own, _lacking), (_needs_registry, _lacking_registry)):
        if needs(item) and (reason := lacking()) is not None:
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost, so that it has the last word
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # An expected failure reports as skipped too, but it ran.
    if report.skipped and not hasattr(report, "wasxfail"):
        _forbid_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Treat a module that skips itself as `pytest_runtest_makereport` treats a test."""
    report = yield
    if report.skipped:
        _forbid_in_ci(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was skipped, from the reports: they come from the workers of a parallel run too."""
    untested: defaultdict[str, list[str]] = defaultdict(list)
    for outcome in ("skipped", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            if outcome == "skipped" or str(report.longrepr).startswith(FORBIDDEN):
                untested[_reason(report)].append(report.nodeid)
    if not untested:
        return
    count = sum(map(len, untested.values()))
    terminalreporter.section(f"NOT TESTED: {count} of the guarantees", sep="!", red=True, bold=True)
    for reason, tests in untested.items():
        terminalreporter.write_line(reason, yellow=True)
        for nodeid in tests:
            terminalreporter.write_line(f"  {_sentence(nodeid)}", red=True)


def _mark_further_cases(items: list[pytest.Item]) -> None:
    """Mark the cases of a test with Kafka but its first one, for a run that has to be short."""
    begun: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if item.get_closest_marker("kafka") is not None and test in begun:
            item.add_marker("further")
        begun.add(test)


def _slow_ones_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order the tests so that no process is left with the slow ones while the others have ended.

    xdist's `worksteal` gives each of the processes a slice of the same length, and later moves the
    end of one that is behind. Tests with Kafka are slow: every slice begins with some of them.
    """
    slow = [item for item in items if item.get_closest_marker("kafka") is not None]
    quick = [item for item in items if item.get_closest_marker("kafka") is None]
    return [
        item
        for worker in range(workers)
        for kind in (slow, quick)
        for item in kind[len(kind) * worker // workers : len(kind) * (worker + 1) // workers]
    ]


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def _needs_own(item: pytest.Item) -> bool:
    """Return whether the test needs a Kafka other than KAFKA_TEST_BROKERS, or there is none."""
    if item.get_closest_marker("kafka") is None:
        return False
    return not EXTERNAL or "kafka" not in _fixtures(item) or "secure_kafka" in _fixtures(item)


@functools.cache
def _lacking() -> str | None:
    """Fetch Kafka if need be; return why none is available, or None."""
    reason = distribution.missing()
    if reason is None:
        try:
            distribution.jars()
            archive.make(wait=False)
        except distribution.FetchError as error:
            reason = str(error)
    return reason


def _needs_registry(item: pytest.Item) -> bool:
    return "registry" in _fixtures(item)


@functools.cache
def _lacking_registry() -> str | None:
    """Fetch the schema registry if need be; return why none is available, or None."""
    reason = registry_distribution.missing()
    if reason is None:
        try:
            prepare_registry()
        except (distribution.FetchError, RegistryError) as error:
            reason = str(error)
    return reason


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    # pytest's own form of a skip: (path, line, reason).
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix(FORBIDDEN).removeprefix("Skipped: ")


def _forbid_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if CI:
        reason = _reason(report)
        report.outcome = "failed"
        report.longrepr = f"{FORBIDDEN}{reason}"


def _sentence(nodeid: str) -> str:
    """Turn `x/test_y.py::test_nothing_is_lost[a]` into `nothing is lost[a]  (x/test_y.py)`."""
    path, _, name = nodeid.partition("::")
    return f"{name.removeprefix('test_').replace('_', ' ')}  ({path})"
