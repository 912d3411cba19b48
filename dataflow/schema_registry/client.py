"""The schema registry, by Confluent's own client: what is asked of it, and how its answers end.

1. One question, one try: whoever asks decides what an outage means. The client would try for a
   minute, and without a limit for a single answer.
2. An answer that a registry gives about a schema has a code of its own. A bare 404 comes from
   another server, such as a proxy before a registry that is just starting: that is an outage.
3. No error has a login: the client's do not quote it, and the address has none.
"""

import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

from confluent_kafka.schema_registry import Schema as ClientSchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from dataflow.config.settings import SchemaRegistrySettings

TIMEOUT_S = 10
"""For one answer to the flow, which asks again."""
TOOL_TIMEOUT_S = 60
"""The same to a command, which does not."""
_NOT_FOUND = {40401, 40402, 40403}
"""The codes of an unknown subject, version and schema."""
_NO_LEVEL = 40408
"""The code of a subject without a compatibility level of its own."""
_MOST_REFERENCES = 50
_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed")


class RegistryAwayError(Exception):
    """The registry gives no answer; the message has the reason."""


class NotInRegistryError(Exception):
    """The registry does not have it."""


class RegistryRefusedError(Exception):
    """The registry refuses what was asked of it, and will not change its mind; with its reason."""


class FoundSchema(NamedTuple):
    """A schema of the registry."""

    kind: str
    """AVRO, JSON or PROTOBUF."""
    text: str
    references: tuple[str, ...] = ()
    """The schemas that it refers to, each behind those that it needs itself."""


class Registry:
    """A connection to the registry; safe to use from any thread.

    Args:
        settings: Where it is, and how to log in.
        timeout_s: For one answer.
    """

    def __init__(self, settings: SchemaRegistrySettings, timeout_s: int = TIMEOUT_S) -> None:
        # It logs each request; what comes of one is in our own lines.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._client = SchemaRegistryClient(_config(settings) | {"timeout": timeout_s})

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def schema(self, schema_id: int) -> FoundSchema:
        """Return the schema of this id.

        Raises:
            NotInRegistryError: it has none.
            RegistryAwayError: it does not answer.
        """
        found = _ask(lambda: self._client.get_schema(schema_id))
        references: dict[tuple[str, int], str] = {}
        self._collect(found, references)
        return FoundSchema(found.schema_type or "AVRO", found.schema_str, (*references.values(),))

    def _collect(self, schema: Any, found: dict[tuple[str, int], str]) -> None:
        for reference in schema.references or ():
            place = (reference.subject, reference.version)
            if place in found:
                continue
            if len(found) >= _MOST_REFERENCES:
                raise NotInRegistryError
            named = _ask(partial(self._client.get_version, *place)).schema
            self._collect(named, found)
            found[place] = named.schema_str

    def probe(self) -> None:
        """Return if the registry answers and lets us in.

        Raises:
            RegistryRefusedError: the login is wrong, or its certificate is not trusted.
            RegistryAwayError: it does not answer.
        """
        try:
            # The question that records bring up; a user may not be allowed any other.
            _ask(lambda: self._client.get_schema(1))
        except NotInRegistryError:
            return
        except RegistryAwayError as away:
            cause = away.__cause__
            if _status(cause) == HTTPStatus.FORBIDDEN:
                return
            if _status(cause) == HTTPStatus.UNAUTHORIZED:
                raise RegistryRefusedError(
                    "SCHEMA_REGISTRY_CREDENTIALS: the schema registry refused the login (HTTP 401)"
                ) from away
            if any(text in str(cause) for text in _UNTRUSTED):
                raise RegistryRefusedError(
                    "SCHEMA_REGISTRY_CA: the certificate of the schema registry is not trusted:"
                    f" {cause}"
                ) from away
            raise

    # ---- our own schemas ----

    def id_of(self, subject: str, kind: str, text: str) -> int:
        """Return the id of a schema in a subject.

        Raises:
            NotInRegistryError: the subject does not have it.
            RegistryAwayError: it does not answer.
        """
        schema = ClientSchema(text, kind)
        return int(_ask(lambda: self._client.lookup_schema(subject, schema)).schema_id)

    def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject; none if it does not exist."""
        try:
            return list(_ask(lambda: self._client.get_versions(subject)))
        except NotInRegistryError:
            return []

    def level(self, subject: str) -> str | None:
        """Return the compatibility level that a subject has of its own, if any."""
        try:
            answer = _ask(lambda: self._client.get_config(subject))
        except NotInRegistryError:
            return None
        level = answer.compatibility_level or answer.compatibility
        return None if level is None else str(getattr(level, "value", level))

    def set_level(self, subject: str, level: str) -> None:
        """Give a subject a compatibility level of its own."""
        _ask(lambda: self._client.set_compatibility(subject, level))

    def is_compatible(self, subject: str, kind: str, text: str) -> bool:
        """Return whether a schema may follow those of a subject, by its level."""
        schema = ClientSchema(text, kind)
        return bool(_ask(lambda: self._client.test_compatibility(subject, schema)))

    def register(self, subject: str, kind: str, text: str) -> int:
        """Register a schema in a subject, and return its id.

        Raises:
            RegistryRefusedError: it is not compatible, or not valid, or we may not.
            RegistryAwayError: it does not answer.
        """
        schema = ClientSchema(text, kind)
        return int(_ask(lambda: self._client.register_schema(subject, schema)))


def _ask(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except SchemaRegistryError as error:
        is_absent = error.http_status_code == HTTPStatus.NOT_FOUND
        if is_absent and error.error_code in _NOT_FOUND | {_NO_LEVEL}:
            raise NotInRegistryError(error.error_message) from error
        if error.http_status_code in {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise RegistryRefusedError(str(error.error_message)) from error
        status = error.http_status_code
        raise RegistryAwayError(f"it answers HTTP {status}: {error.error_message}") from error
    except Exception as error:  # connections, time-outs, TLS, answers that are no JSON
        raise RegistryAwayError(f"{type(error).__name__}: {error}") from error


def _status(error: BaseException | None) -> int:
    return error.http_status_code if isinstance(error, SchemaRegistryError) else 0


def _config(settings: SchemaRegistrySettings) -> dict[str, Any]:
    config: dict[str, Any] = {"url": settings.url, "max.retries": 0}
    if settings.ca:
        config["ssl.ca.location"] = settings.ca
    if settings.credentials is None:
        return config
    text = settings.credentials.reveal()
    if ":" in text:
        return config | {"basic.auth.user.info": text}
    return config | {
        "bearer.auth.credentials.source": "STATIC_TOKEN",
        "bearer.auth.token": text,
        # Required by the client. Only Confluent Cloud reads it, which has logins by API key, too.
        "bearer.auth.logical.cluster": "",
    }
