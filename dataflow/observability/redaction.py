"""The log's second line of defence: what must not be printed is masked before it is rendered.

The first line is that nobody logs payloads or secrets. In case that fails:

    what                                          what is printed
    value under a key such as `sasl_password`     ***
    registered secret, alone or inside a text     ***
    digits of a card number (`schemas.cards`)     ****************
    bytes                                         <N bytes>

Nothing here raises, since a log line must not stop a payment.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from schemas import cards

MASK = "***"
_MAX_DEPTH = 6
"""Nested values below this are left out; also what ends a structure that contains itself."""
_MIN_EMBEDDED = 8
"""Characters from which a registered secret is also looked for inside texts. A shorter one is
masked where it is the whole value: replacing every "a" would leave no log to read."""

_SECRET_PARTS = re.compile(
    "passw|passphrase|secret|token|credential|authori[sz]ation|sasl(?!.?mechanism)|cvv|cvc|api_?key|cardn"
)
_SECRET_WORDS = {"card", "cards", "pan", "pin", "cookie"}
"""Masked as whole words of a key only: "discarded" is no card, and "japan" no card number."""
_WORDS = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_BYTES_LITERAL = re.compile(r"""\bb(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
"""Bytes that other code has already formatted into a text."""

_whole: set[str] = set()
_embedded: list[str] = []


def register_secrets(secrets: Iterable[str]) -> None:
    """Mask these from now on, for the life of the process."""
    _whole.update(secret for secret in secrets if secret)
    # Longest first, or a secret that contains another one would be left half readable.
    _embedded[:] = sorted((s for s in _whole if len(s) >= _MIN_EMBEDDED), key=len, reverse=True)


def redact(_logger: Any, _method: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event, masked: a structlog processor, to run right before the renderer."""
    return {key: _safely(key, value) for key, value in event.items()}


def redact_text(text: str) -> str:
    """Mask what is found in a text."""
    if text in _whole:
        return MASK
    for secret in _embedded:
        text = text.replace(secret, MASK)
    text = _BYTES_LITERAL.sub("<bytes>", text)
    return cards.masked(text)


def _safely(key: str, value: Any) -> Any:
    try:
        return _field(key, value, 0)
    except Exception:  # noqa: BLE001  (whatever a foreign __str__ does, the line must come out)
        return f"<{type(value).__name__}>"


def _field(key: str, value: Any, depth: int) -> Any:
    return MASK if _is_secret(key) and value is not None else _value(value, depth)


def _value(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return MASK if str(value) in _whole else value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _container(value, depth + 1) if depth < _MAX_DEPTH else "…"
    # Any other object as its text: the renderer would call `repr`, past all that is masked here.
    return redact_text(str(value))


def _container(value: Mapping[Any, Any] | Collection[Any], depth: int) -> Any:
    if isinstance(value, Mapping):
        return {redact_text(str(key)): _field(str(key), value[key], depth) for key in value}
    return [_value(inner, depth) for inner in value]


def _is_secret(key: str) -> bool:
    if _SECRET_PARTS.search(key.lower()):
        return True
    return any(word.lower() in _SECRET_WORDS for word in _WORDS.findall(key))
