"""The kinds of values an environment variable can hold: text in, value out, and back."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from dataflow.config.secret import Secret

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_UNITS_BYTES = {"GB": 1024**3, "MB": 1024**2}
_HOST = r"(?:\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
_BROKER = re.compile(rf"{_HOST}:(?P<port>[0-9]{{1,5}})")
_MAX_PORT = 65_535
_URL = re.compile(rf"https?://{_HOST}(?::(?P<port>[0-9]{{1,5}}))?(?:/[A-Za-z0-9._~/-]*)?")


class ValueKind(Struct, frozen=True):
    """One kind of value."""

    expects: str
    """The form of a right value; completes the sentence "expected …"."""
    parse: Callable[[str], Any]
    """Non-empty text to value. `ValueError` for a wrong one; its text, if any, is the reason."""
    show: Callable[[Any], str] = str
    """Value to text that `parse` reads back as the same value."""


def whole_number(low: int, high: int) -> ValueKind:
    """Return the kind of an integer within the bounds, both included."""

    def parse(text: str) -> int:
        # Not int() alone: it takes "1_000", and echoes what it does not take.
        if not re.fullmatch("[0-9]{1,15}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return ValueKind(f"a whole number from {low} to {high}", parse)


def memory_bytes(low: str, high: str) -> ValueKind:
    """Return the kind of bytes, written as a whole number and a unit; so are the bounds."""
    low_bytes, high_bytes = _bytes(low), _bytes(high)

    def parse(text: str) -> int:
        value = _bytes(text)
        if not low_bytes <= value <= high_bytes:
            raise ValueError
        return value

    def show(value: int) -> str:
        unit = next(unit for unit, size in _UNITS_BYTES.items() if value % size == 0)
        return f"{value // _UNITS_BYTES[unit]}{unit}"

    return ValueKind(f"a size from {low} to {high} (units: MB, GB)", parse, show)


def fraction() -> ValueKind:
    """Return the kind of a probability: a float from 0 to 1."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,15})?", text) or float(text) > 1:
            raise ValueError
        return float(text)

    def show(value: float) -> str:
        return f"{value:.15f}".rstrip("0").rstrip(".")

    return ValueKind("a decimal number from 0 to 1", parse, show)


def duration_ms(low: str, high: str) -> ValueKind:
    """Return the kind of milliseconds, written as a whole number and a unit; so are the bounds."""
    low_ms, high_ms = _milliseconds(low), _milliseconds(high)

    def parse(text: str) -> int:
        value = _milliseconds(text)
        if not low_ms <= value <= high_ms:
            raise ValueError
        return value

    return ValueKind(f"a duration from {low} to {high} (units: ms, s, m, h, d)", parse, _written)


def duration_s(low: str, high: str) -> ValueKind:
    """Return the kind of seconds as a float; written, and bounded, like `duration_ms`."""
    inner = duration_ms(low, high)
    return ValueKind(
        inner.expects,
        lambda text: inner.parse(text) / 1000,
        lambda value: _written(round(value * 1000)),
    )


def one_of(*choices: str, **synonyms: str) -> ValueKind:
    """Return the kind of one of a few words, in any case; a synonym stands for its choice."""
    words = {choice.lower(): choice for choice in choices} | synonyms

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError
        return words[text.lower()]

    return ValueKind("one of " + ", ".join(choices), parse)


def gateway(names: Sequence[str], is_class_path: Callable[[str], bool]) -> ValueKind:
    """Return the kind of a gateway's name: one of ours, in any case, or the path of a class."""
    words = {name.lower(): name for name in names}

    def parse(text: str) -> str:
        if text.lower() in words:
            return words[text.lower()]
        if not is_class_path(text):
            raise ValueError
        return text

    return ValueKind("one of " + ", ".join(names) + ", or package.module:Class", parse)


def matching(pattern: str, expects: str) -> ValueKind:
    """Return the kind of a text that matches the regular expression as a whole."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return ValueKind(expects, parse)


def topic() -> ValueKind:
    """Return the kind of a name that Kafka accepts for a topic."""
    return matching(
        r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}",
        "a topic name (1 to 249 letters, digits, '.', '_' or '-')",
    )


def start() -> ValueKind:
    """Return the kind of a place to begin to read: a word, or the offset of each partition."""

    def parse(text: str) -> str | dict[int, int]:
        if text.lower() in {"earliest", "latest"}:
            return text.lower()
        pairs = [pair.strip() for pair in text.split(",")]
        if not all(re.fullmatch("[0-9]{1,5}=[0-9]{1,15}", pair) for pair in pairs):
            raise ValueError
        offsets: dict[int, int] = {}
        for partition, offset in (map(int, pair.split("=")) for pair in pairs):
            if offsets.setdefault(partition, offset) != offset:
                raise ValueError(f"partition {partition} is there twice")
        return offsets

    def show(value: str | dict[int, int]) -> str:
        if isinstance(value, str):
            return value
        return ",".join(f"{partition}={offset}" for partition, offset in value.items())

    return ValueKind("earliest, latest, or partition=offset[,partition=offset...]", parse, show)


def brokers() -> ValueKind:
    """Return the kind of Kafka's bootstrap servers: no blanks, a port each, as for librdkafka."""

    def parse(text: str) -> str:
        addresses = [address.strip() for address in text.split(",")]
        for address in addresses:
            match = _BROKER.fullmatch(address)
            if match is None or not 1 <= int(match["port"]) <= _MAX_PORT:
                raise ValueError
        return ",".join(addresses)

    return ValueKind("host:port[,host:port...] with IPv6 addresses in brackets", parse)


def url() -> ValueKind:
    """Return the kind of an address: scheme, host, maybe port and path."""

    def parse(text: str) -> str:
        match = _URL.fullmatch(text)
        if match is None or (match["port"] and not 1 <= int(match["port"]) <= _MAX_PORT):
            raise ValueError
        return text

    return ValueKind("http:// or https://, a host, and maybe a port and a path", parse)


def base_url() -> ValueKind:
    """Return the kind of the beginning of addresses, without a slash at its end."""
    whole = url()
    return ValueKind(whole.expects, lambda text: str(whole.parse(text)).rstrip("/"))


def base_urls() -> ValueKind:
    """Return the kind of one or more of them, of servers that stand for each other."""
    one = base_url()
    return ValueKind(
        f"{one.expects}; several are separated by commas",
        lambda text: ",".join(str(one.parse(each.strip())) for each in text.split(",")),
    )


def address() -> ValueKind:
    """Return the kind of an IP address of either version; no name, which may stand for several."""
    return ValueKind(
        "an IP address, such as 127.0.0.1 or ::1", lambda text: str(ipaddress.ip_address(text))
    )


def readable_file() -> ValueKind:
    """Return the kind of a path of a file that can be opened now, not only at the handshake."""

    def parse(text: str) -> str:
        try:
            with Path(text).open("rb"):
                return text
        except OSError as err:
            raise ValueError(err.strerror) from None

    return ValueKind("the path of a readable file", parse)


def secret() -> ValueKind:
    """Return the kind of a `Secret`, from any text."""
    return ValueKind("a secret", Secret)


def _bytes(text: str) -> int:
    match = re.fullmatch("([0-9]{1,9})(MB|GB)", text.upper())
    if match is None:
        raise ValueError
    return int(match[1]) * _UNITS_BYTES[match[2]]


def _milliseconds(text: str) -> int:
    match = re.fullmatch("([0-9]{1,12})(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError
    return int(match[1]) * _UNITS_MS[match[2]]


def _written(value_ms: int) -> str:
    """Write milliseconds in the largest unit that divides them."""
    unit = next(unit for unit, size in _UNITS_MS.items() if value_ms % size == 0)
    return f"{value_ms // _UNITS_MS[unit]}{unit}" if value_ms else "0ms"
