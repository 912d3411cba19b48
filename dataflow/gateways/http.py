"""A provider that speaks HTTP and JSON: our own contract, or the shape that a mapping describes.

What is sent is a function of the payment's content (see `HttpMapping.values_of`). What an
answer states is decided by the mapping's rules, and by nothing else; what none of them fits is
`Unknown`. A lookup never answers `NotExecuted`: a lookup that failed proves nothing about the
charge.
"""

import base64
import re
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from dataflow.config.secret import Secret
from dataflow.gateways import http_list, json_pointer
from dataflow.gateways.http_client import HttpClient, Response, is_too_many, read, retry_after_s
from dataflow.gateways.listing import ListedPayment, ListError
from dataflow.gateways.mapping_shape import Call, HttpMapping, Rule, Values, headers_of
from dataflow.gateways.port import (
    Approved,
    DeclineBasis,
    Declined,
    Definite,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Traits,
    Unknown,
    not_taken,
    of_lookup,
)
from schemas.outcomes import DECLINE_CODES, ErrorCode
from schemas.requests import PaymentRequest

_OK = range(200, 300)
_SERVER_ERRORS = range(500, 600)
_OF_PROXIES = {502, 503, 504}
"""Server errors of what is between us and the provider, which has no keys to save them under."""


class HttpGateway(Gateway):
    """A provider behind a mapping.

    Args:
        url: The base of the mapping's paths.
        mapping: The provider's shape.
        credentials: For the mapping's `auth`; with `basic`, user name and password with a colon.
        timeout_s: For one call.
        tls: The trusted authorities and the client certificate; by default those of the system.
    """

    def __init__(
        self,
        url: str,
        mapping: HttpMapping,
        *,
        credentials: Secret | None,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._mapping = mapping
        self._units = mapping.units()
        self._rules_by_status: dict[tuple[Call, int], list[tuple[int, Rule]]] = {}
        key = mapping.key
        self._traits = Traits(
            key_life_s=key.life_hours * 3600,
            saves_errors=key.saves_errors,
            has_lookup=mapping.lookup is not None,
            decimals={currency: minor.decimals for currency, minor in self._units.items()},
        )
        headers = {"User-Agent": "payments-dataflow"} | credential_headers(mapping, credentials)
        self._client = HttpClient(url, timeout_s=timeout_s, headers=headers, tls=tls)

    @property
    def traits(self) -> Traits:
        """The facts about the provider, as the mapping states them."""
        return self._traits

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        """Send the charge."""
        values = self._mapping.values_of(request, key, self._units)
        if values is None:
            return not_taken(request)
        body = self._mapping.body_with(values)
        headers = headers_of(self._mapping, key)
        path = self._mapping.charge.path
        response = await self._client.send("POST", path, headers=headers, body=body)
        if not isinstance(response, Response):
            return response
        return self._reply("charge", response, values) or Unknown("no such payment, to a charge")

    async def lookup(self, request: PaymentRequest, key: str) -> Reply | None:
        """Find the charge by its key, or its paymentId."""
        values = self._mapping.values_of(request, key, self._units)
        if values is None:
            return not_taken(request)
        assert self._mapping.lookup is not None
        path = self._mapping.lookup.path
        for place, value in (("{key}", key), ("{paymentId}", request.payment_id)):
            if place in path and _leads_elsewhere(value):
                return Unknown("its paymentId cannot be a part of a path")
            path = path.replace(place, quote(value, safe=""))
        response = await self._client.send("GET", path)
        if not isinstance(response, Response):
            return of_lookup(response)
        return of_lookup(self._reply("lookup", response, values))

    async def probe(self) -> Reply | None:
        """Ask whether charges would work, if the mapping has a path for that."""
        if self._mapping.probe is None:
            return None
        response = await self._client.send("GET", self._mapping.probe.path)
        if not isinstance(response, Response):
            return response
        if response.status in _OK:
            return None
        reply = self._reply("charge", response)
        return Unknown(f"HTTP {response.status}") if isinstance(reply, Definite) else reply

    def payments(self, since_s: float, until_s: float) -> AsyncIterator[ListedPayment]:
        """Yield the payments that were made in that time, if the mapping has a list."""
        if self._mapping.list is None:
            raise ListError("the mapping has no [list]")
        return http_list.payments(self._client, self._mapping.list.path, since_s, until_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _reply(self, call: Call, response: Response, values: Values | None = None) -> Reply | None:
        """Return what the first rule that fits states; None if there is no charge."""
        document: Any = read(response, object)
        if values is not None and not self._mapping.is_about(document, values):
            return Unknown("the answer is about another payment")
        for number, rule in self._rules(call, response.status):
            if rule.has_values(document):
                reason = f"HTTP {response.status}, by rule {number}"
                saved = self._is_saved(response.status) if rule.saved is None else rule.saved
                return _by_rule(rule, response, document, reason, saved=saved)
        reason = f"HTTP {response.status}, for which there is no rule"
        saved = self._is_saved(response.status)
        return Unknown(reason, saved=saved, too_many=is_too_many(response))

    def _is_saved(self, status: int) -> bool:
        """Return whether the same key would get this failure again; a rule may state otherwise."""
        is_theirs = status in _SERVER_ERRORS and status not in _OF_PROXIES
        return self._traits.saves_errors and is_theirs

    def _rules(self, call: Call, status: int) -> list[tuple[int, Rule]]:
        """Return the rules for answers with a status, with their numbers."""
        found = self._rules_by_status.get((call, status))
        if found is None:
            numbered = enumerate(self._mapping.rules, 1)
            found = [(number, rule) for number, rule in numbered if rule.is_for(call, status)]
            self._rules_by_status[call, status] = found
        return found


def _by_rule(
    rule: Rule, response: Response, document: Any, reason: str, *, saved: bool
) -> Reply | None:
    match rule.reply:
        case "approved":
            return Approved(_at(document, rule.reference))
        case "declined":
            return _decline(rule, document)
        case "pending":
            return Pending(_at(document, rule.reference))
        case "not_found":
            return None
    return _undecided(rule, response, reason, saved=saved)


def _undecided(rule: Rule, response: Response, reason: str, *, saved: bool) -> Reply:
    match rule.reply:
        case "not_executed":
            return NotExecuted(reason, retry_after_s(response), too_many=is_too_many(response))
        case "misconfigured":
            return Misconfigured(reason)
    return Unknown(reason, saved=saved, too_many=is_too_many(response))


def _decline(rule: Rule, document: Any) -> Declined:
    theirs = _at(document, rule.code)
    if isinstance(theirs, int) and not isinstance(theirs, bool):
        theirs = str(theirs)  # 51 is what a mapping has as "51"
    code = rule.codes.get(theirs) if isinstance(theirs, str) else None
    if code is None:
        ours = isinstance(theirs, str) and theirs in DECLINE_CODES
        code = ErrorCode(theirs) if ours else ErrorCode.DECLINED
    retryable = rule.retryable
    if isinstance(retryable, str):
        retryable = _at(document, retryable) is True
    return Declined(
        code,
        _at(document, rule.message),
        retryable,
        _provider_code(document, theirs),
        DeclineBasis.REFUSAL if rule.refusal else DeclineBasis.DECISION,
    )


def _provider_code(document: Any, theirs: Any) -> Any:
    """Return the provider's own code: the contract has a field for it, beside ours."""
    own = json_pointer.find(document, "/providerCode")
    if own is not json_pointer.MISSING:
        return own
    return None if isinstance(theirs, str) and theirs in DECLINE_CODES else theirs


def _at(document: Any, pointer: str | None) -> Any:
    """Return a value as it is: the runner makes replies fit to be published."""
    found = json_pointer.MISSING if pointer is None else json_pointer.find(document, pointer)
    return None if found is json_pointer.MISSING else found


def _leads_elsewhere(value: str) -> bool:
    """Return whether a server, or a proxy before it, may take it for steps in a path."""
    return not {".", ".."}.isdisjoint(re.split(r"[/\\]", value))


def credential_headers(mapping: HttpMapping, credentials: Secret | None) -> dict[str, str]:
    """Return the header that logs in, if there is one; `ValueError` for wrong credentials."""
    if credentials is None or mapping.auth.scheme == "none":
        return {}
    text = credentials.reveal()
    match mapping.auth.scheme:
        case "bearer":
            text = f"Bearer {text}"
        case "basic" if ":" not in text:
            raise ValueError("HTTP_GATEWAY_CREDENTIALS: expected user:password, for basic")
        case "basic":
            text = "Basic " + base64.b64encode(text.encode()).decode()
    return {mapping.auth.header: text}
