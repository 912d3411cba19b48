"""The house: a room imports from lower floors only, and no two modules need each other.

A reader of a room need not know what is above it or beside it. The purity of the lowest rooms is
another test: `test_purity.py`.
"""

import ast
from collections.abc import Iterator, Mapping

import pytest

from tests.support.import_graph import imports_of, modules_below, path_of, reachable

FLOORS: tuple[tuple[str, ...], ...] = (
    # messages: what others read and write
    ("schemas",),
    ("errors",),
    # the rules, and the ground that all else is configured by
    ("core", "config"),
    ("dedupe",),
    ("observability",),
    ("service",),
    # what the parts of a process share
    ("process_context",),
    # side by side: none of them imports another
    ("gateways", "steps", "kafka", "recovery", "schema_registry", "web"),
    # what puts them together
    ("rotation",),
    ("runtime",),
    ("startup",),
    ("flow",),
    # the tools, of which the flow imports nothing; the demo starts a fake provider
    ("console", "fake_provider"),
    (
        *("demo", "gateway_check", "pending_tools", "rebuild_log", "reconcile", "redrive"),
        *("scaling", "verify"),
    ),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MODULES = [
    module
    for package in ("schemas", "dataflow")
    for module in modules_below(package)
    if module != "dataflow"  # only the version, which any room may show
]


def room_of(module: str) -> str:
    """Return the room: a folder or file of `dataflow`, or `schemas`."""
    top, _, rest = module.partition(".")
    return rest.split(".")[0] if top == "dataflow" else top


def ours(module: str) -> set[str]:
    """Return the modules of ours that a module imports."""
    return imports_of(module) & set(MODULES)


def circles(imports: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Yield paths that lead back to where they begin."""
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> Iterator[list[str]]:
        if module in path:
            yield [*path[path.index(module) :], module]
            return
        if module not in done:
            for other in sorted(imports.get(module, ())):
                yield from follow(other, [*path, module])
            done.add(module)

    for module in sorted(imports):
        yield from follow(module, [])


def is_downward(room: str, other: str) -> bool:
    return room == other or FLOOR_OF[other] < FLOOR_OF[room]


def test_every_room_has_its_floor() -> None:
    assert {room_of(module) for module in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_an_import_leads_to_a_lower_floor(module: str) -> None:
    room = room_of(module)
    assert [other for other in sorted(ours(module)) if not is_downward(room, room_of(other))] == []


def test_no_module_needs_itself() -> None:
    assert list(circles({module: ours(module) - {module} for module in MODULES})) == []


def test_messages_import_nothing_of_the_application() -> None:
    assert {room_of(module) for module in reachable(modules_below("schemas"))} == {"schemas"}


def test_steps_bring_no_kafka_with_them() -> None:
    """Nor does anything that they import: they are tested, and read, without it."""
    everything = reachable(modules_below("dataflow.steps"))
    assert not {room_of(module) for module in everything} & {"kafka", "web", "gateways"}
    tops = {name.split(".")[0] for module in everything for name in imports_of(module)}
    assert "bytewax" in tops, "the test would also pass if it found nothing"
    assert "confluent_kafka" not in tops


def test_the_fake_provider_shares_nothing_with_what_it_tests() -> None:
    """An error in a gateway's tables would otherwise be repeated by its provider."""
    rooms = {room_of(module) for module in reachable(modules_below("dataflow.fake_provider"))}
    assert rooms == {"", "fake_provider"}


def test_settings_are_the_ground() -> None:
    rooms = {room_of(module) for module in reachable(modules_below("dataflow.config"))}
    assert rooms == {"", "config", "errors"}


@pytest.mark.parametrize("room", ["schemas", "core", "dedupe", "steps", "kafka", "recovery"])
def test_the_rooms_of_the_workers_make_their_decoders_when_they_are_imported(room: str) -> None:
    """Two workers that decode a type for the first time, at once, crash in msgspec (0.22)."""
    package = room if room == "schemas" else f"dataflow.{room}"
    found = {module: list(late_decoders(module)) for module in modules_below(package)}
    assert {module: lines for module, lines in found.items() if lines} == {}


def late_decoders(module: str) -> Iterator[int]:
    """Yield the lines in functions at which msgspec gets a type to decode."""
    path = path_of(module)
    assert path is not None
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                    has_type = any(keyword.arg == "type" for keyword in call.keywords)
                    if call.func.attr in {"Decoder", "convert"} or (
                        call.func.attr == "decode" and has_type
                    ):
                        yield call.lineno


def test_the_rules_notice() -> None:
    assert not is_downward("kafka", "steps")
    assert not is_downward("schemas", "core")
    assert not is_downward("config", "gateways")
    assert not is_downward("service", "verify")
    assert is_downward("kafka", "core")
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == [["b", "c", "b"]]
