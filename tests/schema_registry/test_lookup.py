"""Schemas are found by their ids without anybody waiting for the registry, whatever it does."""

import json

import pytest
from structlog.testing import capture_logs

from dataflow.schema_registry import lookup
from dataflow.schema_registry.client import FoundSchema
from dataflow.schema_registry.lookup import GRACE_S, UNKNOWN_FOR_S, Refusal, SchemaLookup
from schemas.outcomes import ErrorCode
from tests.schema_registry.samples import OURS, Clock, Schemas, content

FOUND = FoundSchema("AVRO", json.dumps(OURS))


class Scene:
    """A look-up whose thread is the test."""

    def __init__(self, **found: FoundSchema) -> None:
        self.schemas = Schemas(**found)
        self.clock = Clock()
        self.lookup = SchemaLookup(self.schemas, self.clock)
        self.lookup._start = lambda: None  # type: ignore[method-assign]

    def answer(self, schema_id: int) -> object:
        """Return what there is of an id after one round of the thread."""
        self.lookup.find({schema_id})
        self.lookup.look()
        return self.lookup.find({schema_id}).get(schema_id)


def test_a_schema_is_found_by_one_question() -> None:
    scene = Scene(id_7=FOUND)
    assert scene.lookup.find({7}) == {}
    assert scene.lookup.look()
    to_json = scene.lookup.find({7})[7]
    assert callable(to_json)
    assert b"pay_123" in to_json(content(OURS))
    scene.schemas.is_away = True
    assert scene.lookup.find({7}) == {7: to_json}
    assert scene.schemas.asked == [7]


def test_the_thread_looks_up_by_itself() -> None:
    scheme = SchemaLookup(Schemas(id_7=FOUND))
    while not scheme.find({7}):
        pass
    assert scheme.awaited() == ""


class TestUnknownIds:
    def test_an_id_is_unknown_after_a_grace(self) -> None:
        scene = Scene()
        assert scene.answer(9) is None
        scene.clock.now_s += GRACE_S - 0.1
        assert scene.answer(9) is None
        scene.clock.now_s += 0.1
        refusal = scene.answer(9)
        assert isinstance(refusal, Refusal)
        assert refusal.code is ErrorCode.UNKNOWN_SCHEMA

    def test_a_registry_that_is_late_makes_no_schema_unknown(self) -> None:
        scene = Scene()
        assert scene.answer(7) is None
        scene.schemas.found[7] = FOUND
        assert callable(scene.answer(7))

    def test_an_unknown_id_costs_no_question_for_each_record(self) -> None:
        scene = self.with_unknown(9)
        for _ in range(5):
            assert isinstance(scene.lookup.find({9})[9], Refusal)
            assert scene.lookup.look()
        assert len(scene.schemas.asked) == 2

    def test_an_unknown_id_that_comes_again_later_costs_one_more(self) -> None:
        scene = self.with_unknown(9)
        scene.clock.now_s += UNKNOWN_FOR_S + 1
        assert scene.lookup.find({9}) == {}
        # Without a second grace: each would hold up the partition for so long.
        scene.lookup.look()
        assert isinstance(scene.lookup.find({9})[9], Refusal)
        scene.clock.now_s += UNKNOWN_FOR_S + 1
        scene.schemas.found[9] = FOUND
        assert callable(scene.answer(9))

    def test_the_memory_of_unknown_ids_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lookup, "_MOST_UNKNOWN", 3)
        scene = self.with_unknown(*range(10))
        assert len(scene.lookup._answers) == 3

    def with_unknown(self, *ids: int) -> Scene:
        scene = Scene()
        scene.lookup.find(ids)
        scene.lookup.look()
        scene.clock.now_s += GRACE_S
        scene.lookup.look()
        return scene


class TestOutages:
    def test_an_id_is_neither_known_nor_unknown_while_the_registry_is_away(self) -> None:
        scene = Scene(id_7=FOUND)
        scene.schemas.is_away = True
        for _ in range(5):
            assert scene.answer(9) is None
            scene.clock.now_s += GRACE_S
        scene.schemas.is_away = False
        assert callable(scene.answer(7))

    def test_a_wait_has_a_reason(self) -> None:
        scene = Scene(id_7=FOUND)
        scene.schemas.is_away = True
        scene.lookup.find({9, 7})
        assert scene.lookup.awaited() == "", "a usual look-up is shown"
        scene.lookup.look()
        scene.lookup.look()
        scene.clock.now_s += 2
        expected = "records wait for schema id 7 and 1 more: no route to host"
        assert scene.lookup.awaited() == expected

    def test_an_outage_is_logged_at_its_begin_and_its_end(self) -> None:
        scene = Scene(id_7=FOUND)
        scene.schemas.is_away = True
        with capture_logs() as lines:
            for _ in range(3):
                scene.answer(7)
            scene.schemas.is_away = False
            scene.answer(7)
        assert [line["event"] for line in lines] == [
            "waiting for the schema registry",
            "the schema registry answers",
            "schema found",
        ]

    def test_an_id_without_an_answer_holds_up_no_other(self) -> None:
        """Such as one that this user may not read."""
        scene = Scene(id_7=FOUND)
        answers = scene.schemas.schema

        def forbidden(schema_id: int) -> FoundSchema:
            scene.schemas.is_away = schema_id == 5
            return answers(schema_id)

        scene.schemas.schema = forbidden  # type: ignore[method-assign]
        scene.lookup.find({5, 7})
        for _ in range(2):
            scene.lookup.look()
        assert [*scene.lookup.find({5, 7})] == [7]


def test_a_round_of_the_thread_logs_one_refusal() -> None:
    scene = Scene()
    scene.lookup.find(range(100))
    scene.lookup.look()
    scene.clock.now_s += GRACE_S
    with capture_logs() as lines:
        scene.lookup.look()
    [line] = lines
    assert (line["event"], line["schema_id"], line["others"]) == ("schema is not usable", 0, 99)


def test_a_schema_that_no_record_can_be_read_by_is_refused_for_good() -> None:
    scene = Scene(id_7=FoundSchema("PROTOBUF", ""))
    refusal = scene.answer(7)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.until_s) == (ErrorCode.MALFORMED, None)
    scene.clock.now_s += 10 * UNKNOWN_FOR_S
    assert scene.lookup.find({7}) == {7: refusal}
