"""The mapping of a provider's HTTP API, as a TOML file: closed, so a misspelt word stops the start.

Without a file, `CONTRACT` is the mapping: that of `docs/gateway-api.yaml`. `docs/gateways.md` has
an example for another shape. `mapping_shape.py` has the parts of it.
"""

import math
import re
import tomllib
from collections.abc import Sequence
from typing import Any

import msgspec

from dataflow.gateways import json_pointer
from dataflow.gateways.mapping_shape import AmountMapping, Constant, HttpMapping, Rule
from schemas import money
from schemas.outcomes import DECLINE_CODES

_PLACES = ("{key}", "{paymentId}")
_TAKEN_HEADERS = {
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "transfer-encoding",
    "user-agent",
}
_CLASSES = {"2xx", "3xx", "4xx", "5xx"}
_STATUSES = range(100, 600)
_OK: frozenset[int | str] = frozenset(("2xx", *range(200, 300)))
_PAYMENT_REQUIRED = 402
"""Of a refusal that only a payment can have: HTTP uses it for nothing else."""


def read(text: str) -> HttpMapping:
    """Return the mapping that a file has; `ValueError`, with the reason, for a wrong one."""
    try:
        mapping = msgspec.convert(tomllib.loads(text), HttpMapping)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(str(error)) from None
    _check(mapping)
    return mapping


def _check(mapping: HttpMapping) -> None:
    _check_requests(mapping)
    _check_amounts(mapping.amount)
    for number, rule in enumerate(mapping.rules, 1):
        try:
            _check_rule(rule)
        except ValueError as error:
            raise ValueError(f"rule {number}: {error}") from None
    if not any(rule.reply == "approved" for rule in mapping.rules):
        raise ValueError("no rule has the reply approved")


def _check_requests(mapping: HttpMapping) -> None:
    document: dict[str, Any] = {}
    for pointer in mapping.charge.body:
        json_pointer.put(document, pointer, "")
    sent = {each for each in mapping.charge.body.values() if not isinstance(each, Constant)}
    if lacking := {"amount", "currency", "paymentMethod"} - sent:
        raise ValueError(f"charge.body sends no {', '.join(sorted(lacking))}")
    for pointer in mapping.echo:
        json_pointer.parts_of(pointer)
    _check_headers(mapping)
    _check_paths(mapping)
    # TOML has inf and nan, too.
    if not 0 < mapping.key.life_hours < math.inf:
        raise ValueError("key.life_hours: expected a number that is more than 0")


def _check_headers(mapping: HttpMapping) -> None:
    for name in (mapping.key.header, mapping.auth.header):
        if not re.fullmatch("[A-Za-z0-9-]+", name):
            raise ValueError(f"{name!r} is no name of an HTTP header")
        if name.lower() in _TAKEN_HEADERS:
            raise ValueError(f"{name!r} is a header that has a meaning of its own")
    # The second one would replace the first: charges without a key.
    if mapping.auth.scheme != "none" and mapping.key.header.lower() == mapping.auth.header.lower():
        raise ValueError(f"{mapping.key.header!r} is the header of the key and of auth")


def _check_paths(mapping: HttpMapping) -> None:
    for part in (mapping.charge, mapping.lookup, mapping.probe, mapping.list):
        if part and not re.fullmatch('/[!"$-~]*', part.path):
            raise ValueError(f"expected a path that begins with '/', got {part.path!r}")
        known = _PLACES if part is mapping.lookup else ()
        if part and re.search("[{}]", _without(part.path, known)):
            raise ValueError(f"{part.path!r} has a place that nothing is put into")
    if mapping.lookup and _without(mapping.lookup.path, _PLACES) == mapping.lookup.path:
        raise ValueError("lookup.path needs {key} or {paymentId}")


def _without(path: str, places: Sequence[str]) -> str:
    """Return a path without its places."""
    for place in places:
        path = path.replace(place, "")
    return path


def _check_amounts(amount: AmountMapping) -> None:
    if amount.currencies == []:
        raise ValueError("amount.currencies: expected one at least; all payments would be declined")
    unknown = {*amount.decimals, *(amount.currencies or ())} - set(money.EXPONENTS)
    if unknown:
        raise ValueError(f"amount: no such currency: {', '.join(sorted(unknown))}")
    if not all(0 <= each <= 4 for each in amount.decimals.values()):  # noqa: PLR2004
        raise ValueError("amount.decimals: expected 0 to 4")


def _check_rule(rule: Rule) -> None:
    for pointer in rule.pointers():
        json_pointer.parts_of(pointer)
    statuses = rule.status if isinstance(rule.status, list) else [rule.status]
    if not statuses or not all(each in _CLASSES or each in _STATUSES for each in statuses):
        raise ValueError(f"status: expected a number, several, or 2xx to 5xx, got {rule.status!r}")
    if rule.reply == "not_found" and rule.call != "lookup":
        raise ValueError('not_found is a reply to a lookup: it needs call = "lookup"')
    if unknown := set(rule.codes.values()) - DECLINE_CODES:
        raise ValueError(f"codes: {', '.join(sorted(unknown))} is of invalid records")
    if rule.reply == "approved" and (_CLASSES - {"2xx"}) & {*statuses}:
        raise ValueError("a whole class of failed requests cannot be approved")
    decides_alone = _OK | ({_PAYMENT_REQUIRED} if rule.reply == "declined" else set())
    if rule.reply in {"approved", "declined"} and not rule.when and {*statuses} - decides_alone:
        raise ValueError(
            f"{rule.reply} needs when: proxies, limits and wrong credentials have such a status, "
            "too, and have decided nothing"
        )


CONTRACT = """
[charge]
path = "/v1/payments"

[charge.body]
"/paymentId" = "paymentId"
"/userId" = "userId"
"/amount" = "amount"
"/currency" = "currency"
"/paymentMethod" = "paymentMethod"

[lookup]
path = "/v1/payments/{key}"

[probe]
path = "/v1/health"

[list]
path = "/v1/payments"

[echo]
"/paymentId" = "paymentId"

[[rules]]
status = 200
when = { "/status" = "approved" }
reply = "approved"
reference = "/reference"

[[rules]]
status = 200
when = { "/status" = "declined" }
reply = "declined"
code = "/code"
message = "/message"
retryable = "/retryable"

[[rules]]
status = [200, 202]
when = { "/status" = "pending" }
reply = "pending"
reference = "/reference"

[[rules]]
call = "lookup"
status = 404
when = { "/status" = "not_found" }
reply = "not_found"

[[rules]]
status = [429, 503]
reply = "not_executed"

# 422: the key was used with other content, so by another system. Its payment is not ours, though
# the lookup would find it.
[[rules]]
status = [400, 401, 403, 404, 422]
reply = "misconfigured"
"""
"""The mapping of our own contract."""


def contract() -> HttpMapping:
    """Return the mapping of our own contract."""
    return read(CONTRACT)
