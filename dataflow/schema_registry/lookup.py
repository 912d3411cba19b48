"""Schemas by their ids, looked up by a thread of their own: nothing else waits for the registry.

1. A schema never changes, so one that was found is kept.
2. An id that the registry does not have is asked for again for a while, since a registry of several
   servers may be late; then it is unknown, and asked for once more if it comes again later.
3. As long as the registry is away, an id is neither: the records that name it wait.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

import structlog

from dataflow.observability.outage import Outage
from dataflow.schema_registry.avro_codec import UnusableSchemaError
from dataflow.schema_registry.client import FoundSchema, NotInRegistryError, RegistryAwayError
from dataflow.schema_registry.requests import ToJson, converter
from schemas.outcomes import ErrorCode

_log = structlog.get_logger()
GRACE_S = 5.0
"""The time for which an id may be unknown at first."""
UNKNOWN_FOR_S = 60.0
"""The time for which it is believed to be unknown after that."""
_PAUSE_S = 0.5
_SHOWN_AFTER_S = 1.0
"""A wait that is shown: a usual look-up takes milliseconds."""
_MOST_UNKNOWN = 10_000
"""A sender of garbage may name any number of ids."""


class Refusal(NamedTuple):
    """An answer that no record of the id can be read with."""

    code: ErrorCode
    message: str
    until_s: float | None = None
    """The time at which it is to be asked for again; None for never."""


Answer = ToJson | Refusal


class SchemaSource(Protocol):
    """The registry, as far as it is needed here."""

    def schema(self, schema_id: int) -> FoundSchema:
        """Return the schema of this id; raise as `Registry.schema` does."""


class SchemaLookup:
    """The schemas of a process, by their ids; safe to use from any thread.

    Args:
        registry: Where they are looked up.
        monotonic: The clock.
    """

    def __init__(
        self, registry: SchemaSource, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._answers: dict[int, Answer] = {}
        self._unknown: OrderedDict[int, None] = OrderedDict()
        self._wanted: OrderedDict[int, float] = OrderedDict()
        self._reasons: dict[int, str] = {}
        self._outage = Outage("waiting for the schema registry", "the schema registry answers")
        self._thread: threading.Thread | None = None

    def find(self, ids: Collection[int]) -> Mapping[int, Answer]:
        """Return the answers that are there; the other ids are looked up from now on."""
        now_s = self._monotonic()
        with self._changed:
            found = {each: self._answers[each] for each in ids if each in self._answers}
            for each, answer in [*found.items()]:
                if isinstance(answer, Refusal) and (answer.until_s or now_s) < now_s:
                    del found[each]
            for each in ids:
                if each not in found:
                    self._wanted.setdefault(each, now_s)
            if self._wanted:
                self._start()
                self._changed.notify()
        return found

    def awaited(self) -> str:
        """Return which schemas are waited for, and why; empty if none is for long."""
        with self._changed:
            before_s = self._monotonic() - _SHOWN_AFTER_S
            waiting = sorted(each for each, since_s in self._wanted.items() if since_s <= before_s)
            if not waiting:
                return ""
            first, *others = waiting
            more = f" and {len(others)} more" if others else ""
            why = self._reasons.get(first, "the schema registry does not have it yet")
            return f"records wait for schema id {first}{more}: {why}"

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="schema-registry", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted:
                    self._changed.wait()
            if not self.look():
                time.sleep(_PAUSE_S)

    def look(self) -> bool:
        """Ask for all that is wanted, once; return whether nothing is wanted any more."""
        refused: dict[int, Refusal] = {}
        try:
            return self._look(refused)
        finally:
            # Once for all: garbage may name another id in each record.
            for schema_id, refusal in [*refused.items()][:1]:
                _log.warning(
                    "schema is not usable",
                    schema_id=schema_id,
                    reason=refusal.message,
                    others=len(refused) - 1,
                )

    def _look(self, refused: dict[int, Refusal]) -> bool:
        with self._changed:
            wanted = [*self._wanted.items()]
        for schema_id, since_s in wanted:
            try:
                answer = self._answer(schema_id, since_s)
            except RegistryAwayError as away:
                # The other ids might end the same way, each after a time-out: they are the next.
                self._put_off(schema_id, str(away))
                return False
            self._outage.is_over()
            if answer is None:
                continue
            self._keep(schema_id, answer)
            if isinstance(answer, Refusal):
                refused[schema_id] = answer
            else:
                _log.info("schema found", schema_id=schema_id)
        with self._changed:
            return not self._wanted

    def _answer(self, schema_id: int, since_s: float) -> Answer | None:
        try:
            return converter(self._registry.schema(schema_id))
        except UnusableSchemaError as error:
            return Refusal(ErrorCode.MALFORMED, str(error))
        except NotInRegistryError:
            now_s = self._monotonic()
            with self._changed:
                was_unknown = schema_id in self._unknown
            if not was_unknown and now_s - since_s < GRACE_S:
                return None
            return Refusal(
                ErrorCode.UNKNOWN_SCHEMA,
                "the schema registry does not have it (SCHEMA_REGISTRY_URL)",
                now_s + UNKNOWN_FOR_S,
            )

    def _keep(self, schema_id: int, answer: Answer) -> None:
        with self._changed:
            self._wanted.pop(schema_id, None)
            self._reasons.pop(schema_id, None)
            self._answers[schema_id] = answer
            self._unknown.pop(schema_id, None)
            if isinstance(answer, Refusal) and answer.until_s is not None:
                self._unknown[schema_id] = None
                if len(self._unknown) > _MOST_UNKNOWN:
                    oldest, _ = self._unknown.popitem(last=False)
                    del self._answers[oldest]

    def _put_off(self, schema_id: int, reason: str) -> None:
        with self._changed:
            self._reasons[schema_id] = reason
            self._wanted.move_to_end(schema_id)
        self._outage.lasts(f"schema id {schema_id}: {reason}")
