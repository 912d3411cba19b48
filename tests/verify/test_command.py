"""The command: what it prints, for people and machines, and how it exits. Without a cluster."""

import io
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataflow.console.progress import Progress
from dataflow.errors import ConsumeError, StartRefusedError
from dataflow.kafka import preflight
from dataflow.verify import command
from dataflow.verify.reader import Chunk
from tests.verify.fake_cluster import AUDIT, ENVIRON, PROCESSED, START_MS, FakeCluster, payment


class Followed(FakeCluster):
    """A world that something happens to after it has been read for the first time."""

    happens: Callable[[FakeCluster], object] = staticmethod(lambda _world: None)

    def follow(self, on: Callable[[], bool]) -> Iterator[tuple[str, list[Chunk]]]:
        for topic, bounds in self.look().bounds.items():
            yield topic, list(self.read(topic, bounds))
        while on():
            yield "", []
        self.happens(self)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Followed:
    made = Followed()
    for n in range(4):
        made.send(n % 2, payment(f"pay-{n}"), START_MS + n)
    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(command, "KafkaReader", lambda *_: made)
    return made


def run(*argv: str, **environ: str) -> int:
    return command.main(argv, ENVIRON | environ)


@pytest.mark.usefixtures("cluster")
def test_everything_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out, err = capsys.readouterr()
    assert "4  requests read, 4 of them valid" in out
    assert "0  lost" in out
    assert "39.96" in out
    assert out.endswith("Everything holds.\n")
    assert err == "", "in a pipe there is no progress"


def test_something_is_wrong(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.remove(AUDIT, 0, 3)
    assert run() == 1
    out = capsys.readouterr().out
    assert "1  torn" in out
    line = "torn: requested[0] at 3 (paymentId pay-2) has an outcome, but no audit event"
    assert line in out
    assert "user_1" not in out, "no more of the payload than its id"
    assert out.endswith("NOT everything holds.\n")


def test_for_machines(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.find(PROCESSED, 1, 0).change(amount=1)
    assert run("--json") == 1
    out = json.loads(capsys.readouterr().out)
    assert out["holds"] is False
    assert out["counts"]["requests"] == 4
    assert (out["findings"]["wrong_content"], out["findings"]["lost"]) == (1, 0)
    [money, content] = sorted(out["examples"], key=lambda each: str(each["kind"]), reverse=False)
    assert money["kind"] == "money"
    assert content["kind"] == "wrong_content"
    assert content["paymentId"] == "pay-1"
    assert content["topic"] == PROCESSED
    assert out["money"]["USD"] == {
        "requested": "39.96",
        "processed": "30.97",
        "failed": "0.00",
        "difference": "8.99",
    }


@pytest.mark.usefixtures("cluster")
def test_two_readings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--follow", "--until-idle", "0ms") == 0
    assert "16 records were seen while things happened" in capsys.readouterr().out


def test_records_that_are_not_there_any_more(
    cluster: Followed, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request that was seen, and is gone with all events about it: nothing else shows it."""

    def lose(cluster: FakeCluster) -> None:
        for topic in (PROCESSED, AUDIT):
            cluster.remove(topic, 0, 3)
        del cluster.logs["requested"][0][1]

    cluster.happens = lose
    assert run("--follow", "--until-idle", "0ms") == 1
    out = capsys.readouterr().out
    assert "3  unseen" in out
    assert "requested[0] at 3 was there at first, and is not there any more" in out


def test_a_signal_ends_the_first_reading_only(
    cluster: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = signal.getsignal(signal.SIGINT)

    def interrupted(on: Callable[[], bool]) -> Iterator[tuple[str, list[Chunk]]]:
        signal.raise_signal(signal.SIGINT)
        while on():
            yield "", []

    monkeypatch.setattr(cluster, "follow", interrupted)
    assert run("--follow", "--until-idle", "24h") == 0
    assert signal.getsignal(signal.SIGINT) is usual


def test_it_can_be_interrupted(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "look", lambda: signal.raise_signal(signal.SIGINT))
    # Tests that run in the background may have it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run() == 130
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"LANES": "0", "PORT": "no"}, ["LANES", "PORT"]),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, ["KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"]),
    ],
)
def test_a_wrong_configuration(
    environ: dict[str, str], named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(**environ) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(":")[0] for line in err.splitlines()] == named


@pytest.mark.usefixtures("cluster")
def test_no_cluster(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_kafka: object) -> None:
        raise StartRefusedError("KAFKA_BROKERS: nobody answers")

    monkeypatch.setattr(preflight, "inspect", refuse)
    assert run() == 2
    assert capsys.readouterr() == ("", "KAFKA_BROKERS: nobody answers\n")


def test_a_cluster_that_goes_away(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Iterator[Chunk]:
        raise ConsumeError("Kafka does not answer")

    monkeypatch.setattr(cluster, "read", fail)
    assert run() == 2
    assert capsys.readouterr().err == "Kafka does not answer\n"


@pytest.mark.usefixtures("cluster")
def test_a_scratch_directory_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--scratch", str(tmp_path / "nowhere")) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--until-idle", "soon"], ["--timeout", "-1s"], ["--fix"]])
def test_a_wrong_argument(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        run(*argv)
    assert exited.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_progress_on_a_terminal() -> None:
    stream = io.StringIO()
    now_s = [0.0]
    terminal = Terminal(stream)
    progress = Progress(terminal, lambda: now_s[0])  # type: ignore[arg-type]
    progress("audit", 25, 100)
    progress("audit", 26, 100)  # too soon
    now_s[0] = 3.0
    progress("records seen so far", 1234, 0)
    progress.end()
    lines = stream.getvalue().split("\r\x1b[K")
    assert lines == ["", " 25.0 %  audit  0 s", "1,234  records seen so far  3 s", ""]


class Terminal:
    def __init__(self, stream: io.StringIO) -> None:
        self.write, self.flush = stream.write, stream.flush

    def isatty(self) -> bool:
        return True
