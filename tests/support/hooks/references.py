"""References to what the hooks replace, as code: mypy checks them, and a rename finds them.

`lambda: Lane._commit` stands for the attribute `_commit` of `Lane`, not for its value.
"""

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

Reference = Callable[[], object]
"""A lambda without anything but an attribute, of a module or of a class."""


class Place(NamedTuple):
    """An attribute, and what it is an attribute of."""

    owner: Any
    name: str

    @property
    def value(self) -> Any:
        """The present value."""
        return getattr(self.owner, self.name)

    def replace(self, value: object) -> None:
        """Put something else in its place."""
        setattr(self.owner, self.name, value)


def place_of(reference: Reference) -> Place:
    """Return the place that a lambda refers to, by the names in it."""
    assert isinstance(reference, FunctionType)
    first, *between, name = reference.__code__.co_names
    owner = reference.__globals__[first]
    for step in between:
        owner = getattr(owner, step)
    place = Place(owner, name)
    assert place.value == reference(), f"only names, please: {'.'.join([first, *between, name])}"
    return place


def imported_place(module: ModuleType, function: Callable[..., object]) -> Place:
    """Return the place of a function of another module in the module that imports it."""
    place = Place(module, function.__name__)
    assert place.value is function, f"{module.__name__} has another {place.name}"
    return place
