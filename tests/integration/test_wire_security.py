"""TLS and login: what goes in, and what is refused, in words that name the variables to look at."""

from pathlib import Path

import pytest

from tests.support.flow_process import Flow, Topics, mixed_requests, send
from tests.support.hooks.tuning import START_TIMEOUT_S, tuned
from tests.support.kafka import SecureBroker

COUNT = 300


@pytest.fixture(scope="module")
def topics(secure_kafka: SecureBroker) -> Topics:
    return Topics.fresh(secure_kafka)


def login(secure_kafka: SecureBroker) -> dict[str, str]:
    """Return the environment of a flow that logs in as it should."""
    return {
        "KAFKA_BROKERS": secure_kafka.sasl_ssl_bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": secure_kafka.user,
        "KAFKA_SASL_PASSWORD": secure_kafka.password,
        "KAFKA_SSL_CA_LOCATION": secure_kafka.ca_pem,
    }


def refusal(secure_kafka: SecureBroker, topics: Topics, directory: Path, **changed: str) -> str:
    """Return why the flow refuses such an environment; without a word of the password."""
    soon = {START_TIMEOUT_S: 2}
    environ = {**login(secure_kafka), **tuned(soon), **changed}
    with Flow(secure_kafka, topics, directory, environ=environ) as flow:
        reason = flow.refusal()
    assert environ["KAFKA_SASL_PASSWORD"] not in flow.log
    return reason


def test_payments_flow_over_tls_with_a_login(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    send(secure_kafka, topics, mixed_requests(COUNT, seed=1))
    with Flow(secure_kafka, topics, tmp_path, environ=login(secure_kafka)) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(COUNT)
        assert flow.terminate() == 0
    assert secure_kafka.password not in flow.log


def test_a_wrong_password(secure_kafka: SecureBroker, topics: Topics, tmp_path: Path) -> None:
    reason = refusal(secure_kafka, topics, tmp_path, KAFKA_SASL_PASSWORD="not-the-password")
    assert "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD or KAFKA_SASL_MECHANISM" in reason
    assert "Kafka refused the login" in reason


def test_a_mechanism_that_the_broker_does_not_offer(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    reason = refusal(secure_kafka, topics, tmp_path, KAFKA_SASL_MECHANISM="SCRAM-SHA-256")
    assert "KAFKA_SASL_MECHANISM (SCRAM-SHA-256)" in reason


def test_an_authority_that_did_not_sign_the_certificate(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    changed = {"KAFKA_SSL_CA_LOCATION": secure_kafka.other_ca_pem}
    reason = refusal(secure_kafka, topics, tmp_path, **changed)
    assert reason.startswith("KAFKA_SSL_CA_LOCATION, KAFKA_BROKERS or KAFKA_SECURITY_PROTOCOL")
    assert "certificate verify failed" in reason


def test_a_broker_under_a_name_that_its_certificate_does_not_have(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    port = secure_kafka.sasl_ssl_bootstrap.partition(":")[2]
    reason = refusal(secure_kafka, topics, tmp_path, KAFKA_BROKERS=f"127.0.0.1:{port}")
    assert "KAFKA_BROKERS" in reason
    assert "certificate verify failed" in reason


def test_an_unencrypted_client_of_an_encrypted_listener(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    reason = refusal(secure_kafka, topics, tmp_path, KAFKA_SECURITY_PROTOCOL="PLAINTEXT")
    assert reason.startswith("KAFKA_SECURITY_PROTOCOL (PLAINTEXT)")
    assert "its listener probably requires TLS or SASL" in reason


def test_a_client_without_a_login(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    reason = refusal(secure_kafka, topics, tmp_path, KAFKA_SECURITY_PROTOCOL="SSL")
    assert reason.startswith("KAFKA_SECURITY_PROTOCOL (SSL)")
    assert "its listener probably requires TLS or SASL" in reason


def test_an_encrypted_client_of_an_unencrypted_listener(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    reason = refusal(secure_kafka, topics, tmp_path, KAFKA_BROKERS=secure_kafka.bootstrap)
    assert "KAFKA_SECURITY_PROTOCOL (SASL_SSL)" in reason
