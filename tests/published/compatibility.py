"""The changes that would break clients coded against the last published schemas.

A request is compatible if all that was accepted still is; an event, if all that is published now is
valid by the schema of then, and nothing that a reader uses has gone. In both, a value of an
enumeration may be added only where the schema of then has room for it, and none is removed.
"""

from typing import Any

from schemas.contract import Schema

_LOWER = ("minimum", "exclusiveMinimum", "minLength")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength")
_FIXED = ("pattern", "not", "format", "multipleOf", "contentEncoding")
_SEEN = {"type", "properties", "required", "enum", "const", "anyOf", "allOf"}
_WITHOUT_EFFECT = {"$schema", "$id", "title", "description", "x-since"}


def breaks(old: Schema, new: Schema, *, request: bool, at: str = "$") -> list[str]:
    """Return a line for each change of a message that is not backward compatible.

    Raises:
        ValueError: a schema has a keyword whose changes nobody judges here.
    """
    unknown = {*old, *new} - _SEEN - _WITHOUT_EFFECT - {*_LOWER, *_UPPER, *_FIXED}
    if unknown:
        raise ValueError(f"{at}: add {sorted(unknown)} to compatibility.py")
    judges = (_types, _values, _bounds, _required)
    found = [each for judge in judges for each in judge(old, new, request=request)]
    lines = [f"{at}: {each}" for each in found]
    was, is_now = old.get("properties", {}), new.get("properties", {})
    for name, schema in was.items():
        place = f"{at}.{name}"
        if name in is_now:
            lines += breaks(schema, is_now[name], request=request, at=place)
        else:
            lines.append(f"{place}: is gone")
    return lines + _rules(old.get("allOf", []), new.get("allOf", []), request=request, at=at)


def _types(old: Schema, new: Schema, *, request: bool) -> list[str]:
    wide, narrow = (_type(new), _type(old)) if request else (_type(old), _type(new))
    return [] if narrow <= wide else [f"type was {sorted(_type(old))}, is {sorted(_type(new))}"]


def _type(schema: Schema) -> set[str]:
    named = schema.get("type", ["array", "boolean", "null", "number", "object", "string"])
    types = {named} if isinstance(named, str) else set(named)
    return types | {"integer"} if "number" in types else types


def _values(old: Schema, new: Schema, *, request: bool) -> list[str]:
    was, is_now = _named(old), _named(new)
    found = [f"{value!r} is gone" for value in was if value not in is_now] if is_now else []
    outer, inner = (new, old) if request else (old, new)
    if _named(outer) and "anyOf" not in outer:
        if not _named(inner) or "anyOf" in inner:
            found.append("is now an enumeration" if request else "is no enumeration any more")
        elif not request:
            found += [f"{value!r} is new" for value in is_now if value not in was]
    if was and not is_now and "anyOf" in old:
        found.append("its values are gone")
    return found


def _named(schema: Schema) -> list[Any]:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] = schema.get("enum") or schema.get("anyOf", [{}])[0].get("enum", [])
    return values


def _bounds(old: Schema, new: Schema, *, request: bool) -> list[str]:
    outer, inner = (new, old) if request else (old, new)
    found = []
    for keyword in (*_LOWER, *_UPPER, *_FIXED):
        bound, other = outer.get(keyword), inner.get(keyword)
        if bound is None or bound == other:
            continue
        holds = other is not None and (
            (keyword in _LOWER and other >= bound) or (keyword in _UPPER and other <= bound)
        )
        if not holds:
            found.append(f"{keyword} was {old.get(keyword)!r}, is {new.get(keyword)!r}")
    return found


def _required(old: Schema, new: Schema, *, request: bool) -> list[str]:
    was, is_now = set(old.get("required", [])), set(new.get("required", []))
    if request:
        return [f"{name} is required now" for name in sorted(is_now - was)]
    return [f"{name} may be absent now" for name in sorted(was - is_now)]


def _rules(old: list[Schema], new: list[Schema], *, request: bool, at: str) -> list[str]:
    """Compare the rules with a condition in the same way, each with the one in its place."""
    if len(new) > len(old) if request else len(new) < len(old):
        return [f"{at}: has {len(new)} rules with a condition, had {len(old)}"]
    lines = []
    for number, (was, is_now) in enumerate(zip(old, new, strict=False)):
        place = f"{at}.allOf[{number}]"
        if not _covers(is_now["if"], was["if"]):
            lines.append(f"{place}: has another condition")
        lines += breaks(was["then"], is_now["then"], request=request, at=place)
    return lines


def _covers(new: Any, old: Any) -> bool:
    """Return whether a condition is the same, or has more values in its enumerations."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return bool(new == old)
    return old.keys() == new.keys() and all(
        set(old[key]) <= set(new[key]) if key == "enum" else _covers(new[key], old[key])
        for key in old
    )
