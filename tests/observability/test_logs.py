"""The form of a log line, for machines and for people, from any logger."""

import io
import json
import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from dataflow.observability import redaction
from dataflow.observability.logs import configure

PAYLOAD = "4111111111111111"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure("info", stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_names_the_environment_from_every_thread() -> None:
    stream = io.StringIO()
    configure("info", environment="staging", stream=stream)
    structlog.get_logger("dataflow.flow").info("one")
    worker = threading.Thread(target=structlog.get_logger("dataflow.flow").info, args=["two"])
    worker.start()
    worker.join()
    logging.getLogger("uvicorn").warning("three")

    named = [(line["event"], line["environment"]) for line in lines(stream)]
    assert named == [("one", "staging"), ("two", "staging"), ("three", "staging")]


def test_one_event_is_one_line_of_json(stream: io.StringIO) -> None:
    structlog.get_logger("dataflow.flow").info("started", lanes=8, note="a\nb")

    (line,) = lines(stream)
    timestamp = line.pop("timestamp")
    assert timestamp.endswith("Z")
    assert abs(datetime.fromisoformat(timestamp) - datetime.now(UTC)).total_seconds() < 60
    assert line == {
        "event": "started",
        "level": "info",
        "logger": "dataflow.flow",
        "lanes": 8,
        "note": "a\nb",
    }


def test_other_libraries_are_rendered_alike(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("listening on %s", "0.0.0.0:3000")

    (line,) = lines(stream)
    assert line["event"] == "listening on 0.0.0.0:3000"
    assert (line["level"], line["logger"]) == ("warning", "uvicorn.error")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_entries_below_the_level_are_left_out(level: str, logged: list[str]) -> None:
    stream = io.StringIO()
    configure(level, stream=stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger("ours"), name)("x")
        getattr(logging.getLogger("theirs"), name)("x")

    assert [line["level"] for line in lines(stream)] == [name for name in logged for _ in range(2)]


def test_values_bound_for_the_context_are_on_every_line(stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(worker=1):
        structlog.get_logger().info("a")
        logging.getLogger("x").info("b")
    assert [line["worker"] for line in lines(stream)] == [1, 1]


def test_configuring_again_replaces_the_stream(stream: io.StringIO) -> None:
    log = structlog.get_logger()
    log.info("before")
    other = io.StringIO()
    configure("info", stream=other)
    log.info("after")
    assert [line["event"] for line in lines(stream)] == ["before"]
    assert [line["event"] for line in lines(other)] == ["after"]


def test_it_goes_to_standard_output_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    structlog.get_logger().info("hello")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["event"] == "hello"
    assert captured.err == ""


def fail(half: int) -> None:
    payload = f"payload {2 * half}"  # only ever a value: it is not in the source lines shown
    raise ValueError(f"cannot charge {len(payload)} characters")


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("foreign", [True, False])
def test_a_traceback_has_the_error_and_the_place_but_no_local_variables(
    *, terminal: bool, foreign: bool
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    configure("info", stream=stream)
    try:
        fail(2_500_007)
    except ValueError:
        if foreign:
            logging.getLogger("x").exception("failed")
        else:
            structlog.get_logger().exception("failed")

    text = stream.getvalue()
    assert "ValueError" in text
    assert "cannot charge" in text
    assert "test_logs.py" in text
    assert "5000014" not in text


def test_a_traceback_is_structured_for_machines(stream: io.StringIO) -> None:
    try:
        fail(3)
    except ValueError:
        structlog.get_logger().exception("failed")

    (line,) = lines(stream)
    (trace,) = line["exception"]
    assert trace["exc_type"] == "ValueError"
    assert trace["exc_value"] == "cannot charge 9 characters"
    assert [frame["name"] for frame in trace["frames"]][-1] == "fail"


def test_people_get_lines_for_people() -> None:
    stream = Terminal()
    configure("info", stream=stream)
    structlog.get_logger().info("started", lanes=8)
    assert "started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("terminal", [True, False])
def test_every_way_to_the_log_is_masked(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    monkeypatch.setattr(redaction, "_whole", set())
    monkeypatch.setattr(redaction, "_embedded", [])
    redaction.register_secrets(["hunter2-hunter2"])
    stream = Terminal() if terminal else io.StringIO()
    configure("info", stream=stream)

    log = structlog.get_logger()
    sentence = f"charging {PAYLOAD}"
    log.info(sentence, value=PAYLOAD.encode(), card="4", nested=[{"token": "abcdef"}])
    log.info("formatted %s", PAYLOAD)
    logging.getLogger("rdkafka").error("login as hunter2-hunter2 with %s failed", PAYLOAD)
    try:
        int(f"hunter2-hunter2 {PAYLOAD}")
    except ValueError:
        log.exception("failed")

    text = stream.getvalue()
    assert PAYLOAD not in text
    assert "hunter2" not in text
    assert "abcdef" not in text
    assert "<16 bytes>" in text
