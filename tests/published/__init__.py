"""The published schemas, as tests use them: real messages are checked against all of them.

Each message is checked twice, as what it is now and as what a reader of the last published version
takes it for. Now it must have nothing that its schema does not state: schemas are open for readers,
not for us.

`last/` has the schemas of the last published version. A release copies `schemas/json/` and
`schemas/avro/` there.

python -m tests.published            # (make contract) writes schemas/*/ and docs/events.md again
"""

import functools
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator

from schemas import contract
from schemas.contract import Schema
from tests import ROOT

FILES = ROOT / "schemas" / "json"
AVRO_FILES = ROOT / "schemas" / "avro"
LAST = Path(__file__).with_name("last")
LONGEST_INT = 18
REQUESTED, PROCESSED, FAILED, AUDIT, PENDING = (message.name for message in contract.MESSAGES)
OF_TOPIC = {"processed": PROCESSED, "failed": FAILED, "audit": AUDIT}


def current() -> dict[str, Schema]:
    """Return the schema of each message."""
    return {message.name: contract.schema_of(message) for message in contract.MESSAGES}


def last() -> dict[str, Schema]:
    """Return those of the last published version."""
    return {
        path.name.removesuffix(".schema.json"): json.loads(path.read_text())
        for path in LAST.glob("*.schema.json")
    }


def as_json(value: bytes, parse_float: Callable[[str], Any] = Decimal) -> Any:
    """Return the document; integers that Python refuses to read become decimals."""

    def parse_int(digits: str) -> int | Decimal:
        return int(digits) if len(digits) <= LONGEST_INT else Decimal(digits)

    return json.loads(value, parse_float=parse_float, parse_int=parse_int)


def assert_valid(name: str, value: bytes) -> None:
    """Check an event against all schemas that it must obey."""
    event = as_json(value)
    for problems in _validators(name):
        assert [f"{error.json_path}: {error.message}" for error in problems(event)] == []


@functools.cache
def _validators(name: str) -> list[Callable[[Any], Any]]:
    now, before = current()[name], last().get(name)
    checker = Draft202012Validator.FORMAT_CHECKER
    validators = [
        Draft202012Validator(closed(now), format_checker=checker),
        Draft7Validator(now),
    ]
    if before is not None:
        validators.append(Draft202012Validator(before, format_checker=checker))
    return [validator.iter_errors for validator in validators]


def closed(schema: Schema) -> Schema:
    """Return the schema without room for anything that it does not state."""
    shut = {key: value for key, value in schema.items() if key != "anyOf"}
    if "anyOf" in schema:
        shut |= {"type": "string"} | schema["anyOf"][0]
    if "properties" in schema:
        shut["properties"] = {name: closed(each) for name, each in schema["properties"].items()}
        shut["additionalProperties"] = False
    return shut
