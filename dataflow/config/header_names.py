"""The names that `KAFKA_FORWARD_HEADERS` may have."""

import re

DEFAULT = ("traceparent", "tracestate", "baggage", "correlation-id")
"""Those of W3C's trace context and baggage, and the usual name of an id that a sender follows."""
NONE = "none"
"""The word for no header at all: an empty variable counts as unset."""

_NAME = re.compile(r"[!-+\--~]{1,255}")
_OURS = {"version", "lane", "lanes", "content-type"}
"""By the first three the flow recognises what its lanes have written; the last one is about the
record itself, so that of a request is not true of an event."""
_ATTRIBUTE = "ce_"
"""With it begin the CloudEvents attributes, which are about the record itself as well."""


def parse(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas.

    Raises:
        ValueError: one of them is no name, or is that of a header that events have themselves.
    """
    if text.lower() == NONE:
        return ()
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not _NAME.fullmatch(name) or name.lower() == NONE:
            raise ValueError
        if name.lower() in _OURS or name.lower().startswith(_ATTRIBUTE):
            raise ValueError(f"{name} is a header that the flow writes itself")
    return tuple(dict.fromkeys(names))


def show(names: tuple[str, ...]) -> str:
    """Return the text that `parse` reads back as these names."""
    return ",".join(names) or NONE
