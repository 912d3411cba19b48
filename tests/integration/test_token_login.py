"""A login by tokens: of an OpenID provider, and of a callback as for Amazon MSK; on a real Kafka.

There is no MSK here. Its login is OAUTHBEARER with a token of a callback; that much is shown, with
a token that this Kafka accepts. AWS's signature is in `tests/test_msk_token.py`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, send
from tests.support.hooks.tuning import START_TIMEOUT_S, tuned
from tests.support.invariants import check
from tests.support.kafka import SecureBroker
from tests.support.kafka.tokens import CLIENT_ID, CLIENT_SECRET, SCOPE

COUNT = 300
RUN = """
import runpy, sys
sys.path.insert(0, {first!r})
runpy.run_module("bytewax.run", run_name="__main__", alter_sys=True)
"""
"""The flow's command, with a place that modules are looked for before any other."""
SIGNER = """
import pathlib

def generate_auth_token(region):
    assert region == "eu-central-1"
    token, expires_s = pathlib.Path({file!r}).read_text().split()
    return token, int(float(expires_s) * 1000)
"""


@pytest.fixture
def topics(secure_kafka: SecureBroker) -> Topics:
    return Topics.fresh(secure_kafka)


@pytest.fixture
def short_lived(secure_kafka: SecureBroker) -> Iterator[None]:
    # Clients get a new one after 80 % of it. A connection that begins with the old one just before
    # lives for the rest; and Kafka refuses to authenticate one again within a second.
    secure_kafka.tokens.lifetime_s = 20
    yield
    secure_kafka.tokens.lifetime_s = 300


def login(secure_kafka: SecureBroker, secret_file: Path) -> dict[str, str]:
    """Return the environment of a flow that logs in as it should."""
    secret_file.write_text(CLIENT_SECRET + "\n")
    return {
        "KAFKA_BROKERS": secure_kafka.oauth_bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SSL_CA_LOCATION": secure_kafka.ca_pem,
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "KAFKA_OAUTH_TOKEN_URL": secure_kafka.tokens.url,
        "KAFKA_OAUTH_CLIENT_ID": CLIENT_ID,
        "KAFKA_OAUTH_CLIENT_SECRET_FILE": str(secret_file),
        "KAFKA_OAUTH_SCOPE": SCOPE,
        "KAFKA_OAUTH_CA_LOCATION": secure_kafka.ca_pem,
    }


def refusal(secure_kafka: SecureBroker, topics: Topics, directory: Path, **changed: str) -> str:
    environ = {
        **login(secure_kafka, directory / "client-secret"),
        **tuned({START_TIMEOUT_S: 2}),
        **changed,
    }
    with Flow(secure_kafka, topics, directory, environ=environ) as flow:
        reason = flow.refusal()
    assert CLIENT_SECRET not in flow.log
    return reason


@pytest.mark.usefixtures("short_lived")
def test_payments_flow_with_tokens_of_a_provider(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    """The tokens live for so short a time that each client needs new ones."""
    environ = login(secure_kafka, tmp_path / "client-secret")
    send(secure_kafka, topics, mixed_requests(COUNT, seed=1))
    with Flow(secure_kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(COUNT)
        so_far = secure_kafka.tokens.issued
        flow.wait(lambda: secure_kafka.tokens.issued > so_far + 5, LIMIT_S, "given more tokens")
        send(secure_kafka, topics, mixed_requests(COUNT, seed=2))
        flow.wait_until_decided(2 * COUNT)
        assert flow.terminate() == 0
    assert CLIENT_SECRET not in flow.log
    assert check(secure_kafka, topics).problems == []


def test_a_wrong_client_secret(secure_kafka: SecureBroker, topics: Topics, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("another-client-secret")
    changed = {"KAFKA_OAUTH_CLIENT_SECRET_FILE": str(tmp_path / "other")}
    reason = refusal(secure_kafka, topics, tmp_path, **changed)
    assert reason.startswith(
        "KAFKA_OAUTH_TOKEN_URL, KAFKA_OAUTH_CLIENT_ID, KAFKA_OAUTH_CLIENT_SECRET"
    )
    assert "invalid_client" in reason


def test_an_authority_that_did_not_sign_the_providers_certificate(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    changed = {"KAFKA_OAUTH_CA_LOCATION": secure_kafka.other_ca_pem}
    reason = refusal(secure_kafka, topics, tmp_path, **changed)
    assert "KAFKA_OAUTH_CA_LOCATION" in reason


def test_a_token_that_the_broker_does_not_accept(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    reason = refusal(secure_kafka, topics, tmp_path, KAFKA_BROKERS=secure_kafka.sasl_ssl_bootstrap)
    assert "KAFKA_SASL_MECHANISM (OAUTHBEARER)" in reason


def test_payments_flow_with_tokens_of_a_callback(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path
) -> None:
    """In place of AWS's library there is one that returns a token of this Kafka's provider."""
    token, expires_s = secure_kafka.tokens.token()
    (tmp_path / "token").write_text(f"{token} {expires_s}")
    package = tmp_path / "aws_msk_iam_sasl_signer"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "MSKAuthTokenProvider.py").write_text(SIGNER.format(file=str(tmp_path / "token")))
    environ = {
        "KAFKA_BROKERS": secure_kafka.oauth_bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SSL_CA_LOCATION": secure_kafka.ca_pem,
        "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM",
        "KAFKA_AWS_REGION": "eu-central-1",
    }
    command = (sys.executable, "-c", RUN.format(first=str(tmp_path)), "dataflow.flow")
    send(secure_kafka, topics, mixed_requests(COUNT, seed=1))
    with Flow(secure_kafka, topics, tmp_path, environ=environ, command=command) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(COUNT)
        assert flow.terminate() == 0
    assert token not in flow.log
    assert check(secure_kafka, topics).problems == []
