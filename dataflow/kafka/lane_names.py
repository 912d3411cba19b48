"""The name of a lane at Kafka, and the metadata that is committed beside an offset."""

import re
from typing import NamedTuple

from dataflow.core.lanes import lane_name


def transactional_id(group: str, lane: int) -> str:
    """Return a lane's id at Kafka: the one that initialises it last is the lane's only writer."""
    return f"{group}-lane-{lane_name(lane)}"


def lane_group(group: str, lane: int) -> str:
    """Return the consumer group that holds a lane's committed input offsets."""
    return f"{group}.lane-{lane_name(lane)}"


class Metadata(NamedTuple):
    """The facts committed with an offset: what a start checks before it believes the offset."""

    lanes: int | None = None
    """The number of lanes at that time."""
    topic_id: str | None = None
    """Of the request topic: an offset of a topic that was deleted since means nothing."""
    log_id: str | None = None
    """The topic id of the lanes' log: another one has not what was claimed."""
    ids: int = 0
    """The number of ids the lane remembered: so many, at least, must be in its log..."""
    since_s: int = 0
    """... that were last seen at or after this time, in seconds since 1970."""
    pending_id: str | None = None
    """Of the pending topic: another one has not what was parked."""
    partitions: int = 0
    """Of so many input partitions, every lane had committed an offset before: one that is missing
    now was there, and is lost."""
    began: int | None = None
    """With an offset of the flow's own group: the offset at which reading began."""
    records: int | None = None
    """With the same: the offset after the last record, up to which the lanes have committed."""

    def __str__(self) -> str:
        """Return the text that Kafka keeps."""
        return " ".join(
            f"{name}={value}"
            for name, value in zip(_NAMES, self, strict=True)
            if value or (value is not None and name in _MAY_BE_0)
        )

    def is_of(self, topic_id: str | None) -> bool:
        """Return whether the offset may be of this topic: unless both are known, it is believed."""
        return None in {self.topic_id, topic_id} or self.topic_id == topic_id

    @classmethod
    def read(cls, text: str | None) -> "Metadata":
        """Return what was committed; nothing for an offset that something else has put there."""
        found = dict(_PAIR.findall(text or ""))
        return cls(
            lanes=_number_if_any(found.get("lanes", "")),
            topic_id=found.get("topic"),
            log_id=found.get("log"),
            ids=_number(found.get("ids", "")),
            since_s=_number(found.get("since", "")),
            pending_id=found.get("pending"),
            partitions=_number(found.get("partitions", "")),
            began=_number_if_any(found.get("began", "")),
            records=_number_if_any(found.get("records", "")),
        )


def _number(text: str) -> int:
    return _number_if_any(text) or 0


def _number_if_any(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


_NAMES = (
    *("lanes", "topic", "log", "ids", "since", "pending", "partitions"),
    *("began", "records"),
)
_MAY_BE_0 = {"began", "records"}
_PAIR = re.compile(r"(\w+)=(\S+)")
