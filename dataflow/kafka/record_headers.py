"""The headers of a record that anybody may have written.

1. The names of headers are bytes to Kafka. With a name that is not UTF-8 the client returns a list
   with a hole in it, which crashes the process that looks into it, and leaves an error behind.
   Python looks for such an error after a call, but not after each that it has made faster: so the
   client is called by `map`, which always looks, and the list is replaced at once.
2. A record may have hundreds of thousands of headers, each of which is a hundred times as large in
   Python: so they are let go of before those of the next record are looked at.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import methodcaller
from typing import Any

from confluent_kafka import Message

from schemas.headers import Headers, forwarded

_UNREADABLE = (SystemError, UnicodeDecodeError)
_headers_of_message = Message.headers


def headers_of(message: Message) -> Headers:
    """Return the headers of a record; none if a name is not UTF-8: no lane has written those."""
    try:
        found: Any = next(map(methodcaller("headers"), (message,)))
    except _UNREADABLE:
        message.set_headers([])
        return []
    return found or []


def forwarded_of(
    messages: Sequence[Message], names: Collection[str]
) -> tuple[dict[int, Headers], int]:
    """Return the headers with these names by the offsets of the records that have any.

    And how many were left out: those beyond the limits, and one for each record with a name that is
    not UTF-8.
    """
    found: dict[int, Headers] = {}
    left_out = 0
    if not names:
        return found, left_out
    for message, headers in _read(messages):
        if headers is None:
            left_out += 1
            continue
        if kept := forwarded(headers, names):
            offset = message.offset()
            assert offset is not None
            found[offset] = kept
        left_out += sum(name in names for name, _ in headers) - len(kept)
    return found, left_out


def _read(messages: Iterable[Message]) -> Iterator[tuple[Message, Any]]:
    """Yield the records with headers, and these; None if a name is not UTF-8."""
    reading: Iterator[Any] = map(_headers_of_message, messages)
    for message in messages:
        try:
            headers = next(reading)
        except _UNREADABLE:
            message.set_headers([])
            yield message, None
            continue
        # Most records have none: they cost no other call.
        if headers is not None:
            message.set_headers([])
            yield message, headers
