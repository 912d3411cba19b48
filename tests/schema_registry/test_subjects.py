"""Our schemas are looked for with as few rights as possible."""

from typing import Any

from dataflow.config.settings import Settings
from dataflow.schema_registry import subjects
from dataflow.schema_registry.subjects import State
from tests.support.required import REQUIRED


class ReadOnly:
    """A registry that has every schema, and answers no other question than that for its id."""

    def id_of(self, _subject: str, _kind: str, _text: str) -> int:
        return 7


def test_a_schema_that_is_registered_is_found_by_one_question() -> None:
    [schema, *_] = subjects.of_outputs(Settings.from_env(REQUIRED).kafka, "avro")
    registry: Any = ReadOnly()
    found = subjects.look(registry, schema)
    assert (found.state, found.schema_id) == (State.REGISTERED, 7)
