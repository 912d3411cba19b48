"""JSON pointers (RFC 6901): reading a value of a document, and writing one into objects."""

from functools import lru_cache
from typing import Any

MISSING = object()
"""The value of a pointer to nothing."""


@lru_cache(maxsize=1024)
def parts_of(pointer: str) -> tuple[str, ...]:
    """Return the names and indexes of a pointer; `ValueError` if it is none."""
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is no JSON pointer: it begins with '/', such as /error/code")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def find(document: Any, pointer: str) -> Any:
    """Return the value at a pointer, or `MISSING`."""
    for part in parts_of(pointer):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return MISSING
    return document


def put(document: dict[str, Any], pointer: str, value: Any) -> None:
    """Write a value at a pointer, and the objects on the way there; `ValueError` if it is taken."""
    *way, last = parts_of(pointer) or ("",)
    for part in way:
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise ValueError(f"{pointer} leads through a value")  # noqa: TRY004  (of the mapping)
    if last in document or not pointer:
        raise ValueError(f"{pointer!r} is taken, or is the whole document")
    document[last] = value
