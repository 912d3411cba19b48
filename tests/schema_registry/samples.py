"""Requests as senders of Avro write them, and a registry of a few schemas, in memory."""

import json
from collections.abc import Mapping
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro

from dataflow.schema_registry.client import FoundSchema, NotInRegistryError, RegistryAwayError
from dataflow.schema_registry.requests import converter
from schemas import avro, contract

TEXTS = ("paymentId", "userId", "currency", "paymentMethod")
FIELDS: dict[str, Any] = {
    "paymentId": "pay_123",
    "userId": "user_456",
    "amount": "99.990",
    "currency": "USD",
    "paymentMethod": "credit_card",
    "metadata": '{"orderId":"order_789"}',
}
OURS = avro.schema_of(contract.MESSAGES[0])
"""The schema that senders may take over."""
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}


def schema(**types: Any) -> dict[str, Any]:
    """Return a schema of requests with other types, or with further fields."""
    all_types = dict.fromkeys(FIELDS, "string") | types
    fields = [{"name": name, "type": each} for name, each in all_types.items()]
    return {"type": "record", "name": "Request", "fields": fields}


def content(sender: Mapping[str, Any], **changes: Any) -> bytes:
    """Return the bytes of a request by a schema, without a header."""
    target = BytesIO()
    parsed = fastavro.parse_schema(dict(sender), named_schemas={})
    fastavro.schemaless_writer(target, parsed, FIELDS | changes)
    return target.getvalue()


def as_json(sender: Mapping[str, Any], **changes: Any) -> bytes:
    """Return what a request becomes."""
    return converter(FoundSchema("AVRO", json.dumps(sender)))(content(sender, **changes))


def decimal(text: str) -> Decimal:
    return Decimal(text)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Schemas:
    """A registry of some schemas, which may be away."""

    def __init__(self, **found: FoundSchema) -> None:
        self.found = {int(name.removeprefix("id_")): each for name, each in found.items()}
        self.is_away = False
        self.asked: list[int] = []

    def schema(self, schema_id: int) -> FoundSchema:
        self.asked.append(schema_id)
        if self.is_away:
            raise RegistryAwayError("no route to host")
        if schema_id not in self.found:
            raise NotInRegistryError("no content with this id")
        return self.found[schema_id]
