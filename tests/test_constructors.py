"""The constructors of the flow take few parameters: who needs more, needs another part between.

What all parts of a process share is one parameter, the `ProcessContext`.

Records are excepted (`NamedTuple`, `Struct`, `dataclass`): their constructors are generated from
the fields, which are the value itself and are given by name. A class with a constructor that is
written out is no record, whatever it is derived from.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.support.import_graph import modules_below, path_of

MOST = 6
"""Parameters, `self` not counted."""


def constructors(source: str) -> Iterator[tuple[str, int]]:
    """Yield the classes that write out how they are constructed, and with how many parameters."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name in {"__init__", "__new__"}:
                args = method.args
                named = [*args.posonlyargs, *args.args, *args.kwonlyargs][1:]
                # They may stand for any number, of which each is one more to know.
                rest = [args.vararg, args.kwarg]
                yield node.name, len(named) + sum(each is not None for each in rest)


CONSTRUCTORS = {
    f"{module}.{name}": count
    for module in modules_below("dataflow")
    if (path := path_of(module)) is not None
    for name, count in constructors(path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_constructor_takes_few_parameters(name: str) -> None:
    assert CONSTRUCTORS[name] <= MOST


def test_the_constructors_are_found() -> None:
    """Else the rule would hold for nothing."""
    wanted = {"kafka.source.RequestPartition", "kafka.lane_transaction.Lane", "steps.dedupe.Dedupe"}
    assert {f"dataflow.{name}" for name in wanted} <= CONSTRUCTORS.keys()


def test_the_rule_counts_every_kind_of_parameter() -> None:
    source = """
class Part:
    def __init__(self, a, /, b, *c, d, e=1, **f): ...

class Record(NamedTuple):
    a: int
    b: int

def function(a, b, c, d, e, f, g): ...
"""
    assert dict(constructors(source)) == {"Part": 6}
