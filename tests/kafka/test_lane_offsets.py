"""The message when the committed offsets of the lanes cannot be read."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from dataflow.config.settings import Settings
from dataflow.core.fenced import Fenced
from dataflow.errors import ConsumeError, Fault, StartRefusedError
from dataflow.kafka import lane_offsets, retry
from dataflow.kafka.lane_offsets import LaneOffsets
from dataflow.process_context import Cluster
from tests.support.required import REQUIRED


def fault_for(code: int, monkeypatch: pytest.MonkeyPatch) -> Fault:
    def fail(*_: object) -> None:
        raise KafkaException(KafkaError(code))

    monkeypatch.setattr(retry, "_AT_MOST_S", 0.0)
    settings = Settings.from_env(REQUIRED)
    monkeypatch.setattr(lane_offsets, "committed_offsets", fail)
    with pytest.raises(Fault) as caught:
        LaneOffsets(settings.kafka, 2, Cluster("", [0])).of(Fenced(), 0, 0, None)
    return caught.value


def test_a_transaction_that_never_ends_needs_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be committed or not: to go on with either could lose payments, or repeat them."""
    fault = fault_for(KafkaError.UNSTABLE_OFFSET_COMMIT, monkeypatch)
    assert isinstance(fault, StartRefusedError)
    assert "offsets of group payments-service-group.lane-000 still wait for the end of" in str(
        fault
    )
    assert "docs/start-refusals.md" in str(fault)


def test_any_other_error_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = fault_for(KafkaError.GROUP_AUTHORIZATION_FAILED, monkeypatch)
    assert isinstance(fault, ConsumeError)
    assert "offsets of group payments-service-group.lane-000: " in str(fault)
