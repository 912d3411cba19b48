"""Which requests are traced: the rules of W3C's `traceparent`."""

import pytest

from dataflow.core.trace_context import TraceContext, first_sampled, sampled
from schemas.headers import Headers

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()
FOUND = TraceContext(TRACE, SPAN, "")


def of(*parents: bytes | None) -> TraceContext | None:
    return sampled([("traceparent", each) for each in parents])


@pytest.mark.parametrize("flags", [b"01", b"03", b"ff"])
def test_a_sampled_parent_is_taken(flags: bytes) -> None:
    assert of(PARENT[:-2] + flags) == FOUND


def test_a_later_version_may_have_more() -> None:
    assert of(b"01" + PARENT[2:] + b"-more") == FOUND
    assert of(PARENT + b"-more") is None


@pytest.mark.parametrize(
    "parent",
    [
        PARENT[:-2] + b"00",
        PARENT[:-2] + b"fe",
        b"ff" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"\n",
        PARENT + b"0",
        b" " + PARENT,
        b"",
        b"\xff" * 55,
        None,
    ],
)
def test_a_parent_that_is_not_sampled_or_breaks_a_rule_is_not_traced(parent: bytes | None) -> None:
    assert of(parent) is None


def test_a_request_with_two_parents_or_none_is_not_traced() -> None:
    assert of(PARENT, PARENT) is None
    assert of() is None
    assert sampled([("Traceparent", PARENT)]) is None


def test_the_state_is_that_of_all_its_headers() -> None:
    headers: Headers = [("tracestate", b"a=1"), ("traceparent", PARENT), ("tracestate", b"b=\xff2")]
    assert sampled(headers) == TraceContext(TRACE, SPAN, "a=1,b=2")


def test_the_first_of_several_requests_that_is_sampled_is_found() -> None:
    assert first_sampled([[], [("traceparent", b"x")], [("traceparent", PARENT)]]) == FOUND
    assert first_sampled([[]]) is None
