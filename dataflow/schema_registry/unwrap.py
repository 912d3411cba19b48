"""The records of one poll, of which some may be in Confluent's wire format, as JSON."""

from collections.abc import Sequence
from itertools import islice

from dataflow.core.unwrapped import Unwrapped
from dataflow.schema_registry.avro_codec import UnreadableError
from dataflow.schema_registry.lookup import Answer, Refusal, SchemaLookup
from schemas.outcomes import ErrorCode
from schemas.requests import Rejected
from schemas.wire_format import HEADER_BYTES, schema_id

MOST_IDS = 200
"""Ids of one poll that are looked up at once. Senders name a handful; garbage that begins with a
zero may name one in each record, and the first of so many answers would be forgotten before the
last one is there."""


class Unwrap:
    """Turns what a poll has brought into JSON; safe to share between partitions.

    Args:
        lookup: Has the schemas.
        max_bytes: The largest record whose outcome can be published.
    """

    def __init__(self, lookup: SchemaLookup, max_bytes: int) -> None:
        self._lookup = lookup
        self._max_bytes = max_bytes

    def __call__(self, values: Sequence[bytes | None]) -> Unwrapped:
        """Return the leading records whose schemas are there, as JSON; see `Unwrapped`."""
        wrapped = {
            number: schema
            for number, value in enumerate(values)
            # Looked at here first, since nearly all of them are JSON.
            if value and value[0] == 0 and (schema := schema_id(value)) is not None
        }
        if not wrapped:
            return Unwrapped([*values], {})
        # In the order of the records: those in front are emitted without the others.
        ids = dict.fromkeys(wrapped.values())
        answers = self._lookup.find([*islice(ids, MOST_IDS)])
        out = [*values]
        refused: dict[int, Rejected] = {}
        for number, schema in wrapped.items():
            answer = answers.get(schema)
            if answer is None:
                return Unwrapped(out[:number], refused)
            value = values[number]
            assert value is not None
            found = self._read(value, schema, answer)
            if isinstance(found, Rejected):
                refused[number] = found
            else:
                out[number] = found
        return Unwrapped(out, refused)

    def _read(self, value: bytes, schema: int, answer: Answer) -> bytes | Rejected:
        if len(value) > self._max_bytes:
            message = f"the record has {len(value)} bytes, at most {self._max_bytes} are accepted"
            return Rejected(code=ErrorCode.TOO_LARGE, message=message, original=value)
        if isinstance(answer, Refusal):
            message = f"the record has schema id {schema}: {answer.message}"
            return Rejected(code=answer.code, message=message, original=value)
        try:
            return answer(value[HEADER_BYTES:])
        except UnreadableError as error:
            message = f"the record has schema id {schema}: {error}"
            return Rejected(code=ErrorCode.MALFORMED, message=message, original=value)
