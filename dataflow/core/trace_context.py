"""The trace that a request belongs to, by its header `traceparent` (W3C Trace Context, level 2).

1. Only what is sampled is of interest: nobody collects the rest of the other traces.
2. A `traceparent` that breaks a rule is none, and so are two of them: a trace may be incomplete,
   and a payment is decided all the same.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from schemas.headers import Headers

TRACEPARENT = "traceparent"
_TRACESTATE = "tracestate"
_FORM = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class TraceContext(NamedTuple):
    """A span of a request, as the parent of ours."""

    trace_id: str
    span_id: str
    state: str
    """The header `tracestate`; empty if there is none."""


def sampled(headers: Headers) -> TraceContext | None:
    """Return the sampled trace that these headers of a request name; None if there is none."""
    parents = [value for name, value in headers if name == TRACEPARENT]
    if len(parents) != 1 or not isinstance(parents[0], bytes):
        return None
    found = _FORM.fullmatch(parents[0])
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"00" and more is not None:
        return None
    if not int(trace_id, 16) or not int(span_id, 16) or not int(flags, 16) & _SAMPLED:
        return None
    state = b",".join(
        value for name, value in headers if name == _TRACESTATE and isinstance(value, bytes)
    )
    return TraceContext(trace_id.decode(), span_id.decode(), state.decode("ascii", "ignore"))


def first_sampled(all_headers: Iterable[Headers]) -> TraceContext | None:
    """Return the first sampled trace of several requests; None if there is none."""
    return next((found for each in all_headers if (found := sampled(each))), None)
