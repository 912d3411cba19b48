"""Confluent's wire format: a zero, the id of a schema (4 bytes, big-endian), and the content.

No JSON document begins with a zero, so one topic may have records of both kinds.
"""

HEADER_BYTES = 5
_MAGIC = 0


def schema_id(value: bytes) -> int | None:
    """Return the id that a record names; None if it is not in this format."""
    if len(value) <= HEADER_BYTES or value[0] != _MAGIC:
        return None
    return int.from_bytes(value[1:HEADER_BYTES])


def header(schema: int) -> bytes:
    """Return the beginning of a record with this schema id."""
    return bytes([_MAGIC]) + schema.to_bytes(HEADER_BYTES - 1)
