"""The generated parts of docs/events.md: each between `<!-- name -->` and `<!-- /name -->`."""

import re
from collections.abc import Iterator

import msgspec

from schemas import contract
from schemas.contract import NOT_IN_THE_SCHEMA, Message, Schema
from schemas.headers import Headers
from tests import ROOT
from tests.published import examples

DOCUMENT = ROOT / "docs" / "events.md"
READERS = ROOT / "docs" / "readers"
_PART = re.compile(
    r"(?P<start><!-- (?P<name>[\w./-]+) -->\n).*?(?P<end><!-- /(?P=name) -->)", re.DOTALL
)
_LANGUAGES = {".py": "python", ".java": "java", ".ts": "typescript", ".sql": "sql"}


def filled(text: str) -> str:
    """Return the document with every generated part made again.

    Raises:
        KeyError: a part has a name that nothing is generated for.
    """
    parts = _parts()
    return _PART.sub(lambda part: f"{part['start']}{parts[part['name']]}\n{part['end']}", text)


def names(text: str) -> list[str]:
    """Return the names of the generated parts of the document."""
    return [part["name"] for part in _PART.finditer(text)]


def _parts() -> dict[str, str]:
    events = examples.events()
    parts = {f"fields-{message.name}": _table(message) for message in contract.MESSAGES}
    for record, value in examples.RECORDS.items():
        if value is not None:
            parts[f"record-{record}"] = _code("json", value.decode())
        for kind, event in events[record].items():
            parts[f"{kind}-{record}"] = _code("json", examples.readable(event))
    for kind, headers in examples.headers().items():
        parts[f"headers-{kind}"] = _code("text", _lines(headers))
    parts["entry"] = _code("json", examples.readable(examples.pending_entry()))
    for path in READERS.rglob("*"):
        if path.suffix in _LANGUAGES:
            parts[path.name] = _code(_LANGUAGES[path.suffix], path.read_text().strip())
    parts["not-in-the-schema"] = "\n".join(f"- {line}" for line in NOT_IN_THE_SCHEMA.values())
    return parts


def _lines(headers: Headers) -> str:
    shown = (
        (name, value.decode() if isinstance(value, bytes) else value) for name, value in headers
    )
    return "\n".join(f"{name}: {value}" for name, value in shown)


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _table(message: Message) -> str:
    """Return a row for each field, and for each field of the objects in it."""
    rows = ["| field | type | present | since | meaning |", "|---|---|---|---|---|"]
    schema = contract.schema_of(message)
    for name, field in schema["properties"].items():
        present = message.present.get(name, _always(field))
        rows += _rows(name, field, present)
    return "\n".join(rows)


def _rows(name: str, field: Schema, present: str) -> Iterator[str]:
    meaning = field["description"].partition(" Present: ")[0]
    since = field.get("x-since", contract.FIRST)
    yield f"| `{name}` | {_type(field)} | {present} | {since} | {meaning} |"
    if name not in {"firstSource", "request"}:  # as `source`, and as the request itself
        for inner, each in field.get("properties", {}).items():
            present = each["description"].partition(" Present: ")[2].removesuffix(".")
            yield from _rows(f"{name}.{inner}", each, present or "always")


def _always(field: Schema) -> str:
    return "always, or null" if "null" in field.get("type", ()) else "always"


def _type(field: Schema) -> str:
    """Return the type in words, with its limits."""
    if "const" in field:
        return f"`{msgspec.json.encode(field['const']).decode()}`"
    named = field.get("type", "string")
    text = " or ".join([named] if isinstance(named, str) else named)
    if "maxLength" in field:
        text += f", {field.get('minLength', 0)} to {field['maxLength']} characters"
    if "exclusiveMaximum" in field:
        text += ", above 0, below 10<sup>12</sup>"
    for keyword in ("format", "contentEncoding"):
        if keyword in field:
            text += f", {field[keyword]}"
    if "anyOf" in field:
        text += ": " + ", ".join(f"`{value}`" for value in field["anyOf"][0]["enum"])
        text += "; later versions may add"
    return text
