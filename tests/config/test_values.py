"""The form of the environment's values: accepted, refused, and written back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.config import header_names, values
from dataflow.config.secret import Secret
from dataflow.config.values import ValueKind


def accepts(kind: ValueKind, text: str) -> bool:
    try:
        kind.parse(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("15m", 900_000),
        ("12h", 43_200_000),
        ("7d", 604_800_000),
        ("0s", 0),
    ],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert values.duration_ms("0s", "366d").parse(text) == milliseconds
    assert values.duration_s("0s", "366d").parse(text) == milliseconds / 1000


@pytest.mark.parametrize("text", ["30", "s", "1.5s", "-1s", "1 s", "1w", "1S", "30s\n", "१s"])
def test_not_durations(text: str) -> None:
    assert not accepts(values.duration_ms("0s", "366d"), text)


def test_the_bounds_of_a_duration_are_included() -> None:
    kind = values.duration_ms("10s", "15m")
    assert [accepts(kind, text) for text in ("9999ms", "10s", "900s", "901s")] == [
        False,
        True,
        True,
        False,
    ]


@given(st.integers(0, 366 * 86_400_000))
def test_a_duration_reads_back_as_it_was_written(milliseconds: int) -> None:
    kind_ms, kind_s = values.duration_ms("0s", "366d"), values.duration_s("0s", "366d")
    assert kind_ms.parse(kind_ms.show(milliseconds)) == milliseconds
    assert kind_s.parse(kind_s.show(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize("text", ["0", "257", "-1", "+8", "8.0", "1_0", "eight", "8 8", "९", "0x8"])
def test_not_whole_numbers_from_1_to_256(text: str) -> None:
    assert not accepts(values.whole_number(1, 256), text)


def test_a_number_of_absurd_length_is_refused_like_any_other() -> None:
    assert not accepts(values.whole_number(1, 256), "9" * 100_000)


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1", 1.0), ("0.02", 0.02), ("1.0", 1.0)])
def test_fractions(text: str, value: float) -> None:
    kind = values.fraction()
    assert kind.parse(text) == value
    assert kind.parse(kind.show(value)) == value


@pytest.mark.parametrize("text", ["1.01", "-0.1", "nan", "inf", "2%", "1e-3", ".", "0,5"])
def test_not_fractions(text: str) -> None:
    assert not accepts(values.fraction(), text)


@pytest.mark.parametrize(
    "text",
    [
        "localhost:9092",
        "kafka-0.kafka:9092,kafka-1.kafka:9092",
        "kafka_0:9092",
        "10.0.0.7:9092",
        "[::1]:9092",
        "[fe80::1%eth0]:9092,kafka:1",
        "kafka:65535",
    ],
)
def test_brokers(text: str) -> None:
    assert values.brokers().parse(text) == text


def test_blanks_between_brokers_are_dropped() -> None:
    assert values.brokers().parse("a:1, b:2") == "a:1,b:2"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", "earliest"),
        ("LATEST", "latest"),
        ("0=700", {0: 700}),
        ("0=700, 11=0,2=281474976710655", {0: 700, 11: 0, 2: 2**48 - 1}),
    ],
)
def test_start_positions(text: str, start: str | dict[int, int]) -> None:
    kind = values.start()
    assert kind.parse(text) == start
    assert kind.parse(kind.show(start)) == start


@pytest.mark.parametrize(
    "text", ["first", "0", "0=", "=5", "0=-1", "0=5,", "0=5,0=6", "0:5", "0=x"]
)
def test_start_positions_that_are_refused(text: str) -> None:
    assert not accepts(values.start(), text)


@pytest.mark.parametrize(
    "text",
    [
        "kafka",
        "kafka:",
        ":9092",
        "kafka:0",
        "kafka:65536",
        "kafka:http",
        "a:1,,b:2",
        "a:1,",
        "a:1;b:2",
        "::1:9092",
        "[::1]",
        "PLAINTEXT://kafka:9092",
        "user@kafka:9092",
        "-kafka:9092",
        "kafka:9092/path",
    ],
)
def test_not_brokers(text: str) -> None:
    assert not accepts(values.brokers(), text)


@pytest.mark.parametrize("text", ["a", "payments.payment-requested", "A_1", "...", "x" * 249])
def test_topics(text: str) -> None:
    assert values.topic().parse(text) == text


@pytest.mark.parametrize("text", [".", "..", "x" * 250, "a b", "a/b", "ä", "a,b", "a\n"])
def test_not_topics(text: str) -> None:
    assert not accepts(values.topic(), text)


def test_words_are_taken_in_any_case_and_by_their_synonyms() -> None:
    level = values.one_of("debug", "warning", warn="warning")
    assert [level.parse(text) for text in ("debug", "WARNING", "Warn")] == [
        "debug",
        "warning",
        "warning",
    ]
    assert values.one_of("SASL_SSL").parse("sasl_ssl") == "SASL_SSL"
    assert not accepts(level, "trace")


def test_a_readable_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    assert not accepts(values.readable_file(), str(file))
    file.write_text("-")
    assert values.readable_file().parse(str(file)) == str(file)
    assert not accepts(values.readable_file(), str(tmp_path))


@given(st.text())
def test_a_secret_shows_three_stars_however_it_is_printed(text: str) -> None:
    secret = Secret(text)
    assert f"{secret} {secret!r} {secret!s} {[secret]}" == "*** *** *** [***]"
    assert "{}".format(secret) == "%s" % secret == "***"  # noqa: UP031, UP032
    assert secret.reveal() == text


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("traceparent", ("traceparent",)),
        ("a, b,a", ("a", "b")),
        ("X-Request-Id,urn:id!", ("X-Request-Id", "urn:id!")),
        ("None", ()),
        ("n" * 255, ("n" * 255,)),
    ],
)
def test_names_of_headers(text: str, names: tuple[str, ...]) -> None:
    assert header_names.parse(text) == names
    assert header_names.parse(header_names.show(names)) == names


@pytest.mark.parametrize(
    "text",
    ["a,", ",", "a b", "a\x00", "caf\xe9", "n" * 256, "none,a", "lane", "ce_id", "Content-Type"],
)
def test_names_of_headers_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the whole text is the reader's)
        header_names.parse(text)
