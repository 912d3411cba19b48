"""Mounted secrets that change under a flow on a real Kafka: taken over if they hold, else left."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from dataflow.fake_provider.process import FakeProvider
from tests.integration.test_parking import charged, pending
from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, request, send
from tests.support.hooks.tuning import (
    PARKED_UNIT_S,
    PROBE_MOST_S,
    SECRETS_CHECK_EVERY_S,
    SECRETS_DELAY_LEAST_S,
    SECRETS_JITTER_S,
    SECRETS_LOOK_EVERY_S,
    tuned,
)
from tests.support.invariants import check
from tests.support.kafka import SecureBroker
from tests.support.kafka.ports import free
from tests.support.mounted_secret import Secret

COUNT = 300
USER = "rotating"
OLD, NEW, WRONG = "the-old-password", "the-new-password", "a-wrong-password"
WATCHFUL = tuned(
    {
        SECRETS_CHECK_EVERY_S: 1,
        SECRETS_DELAY_LEAST_S: 1,
        SECRETS_JITTER_S: 0.5,
        SECRETS_LOOK_EVERY_S: 0.5,
        # What was parked is asked for soon after a restart.
        PARKED_UNIT_S: 0.2,
        PROBE_MOST_S: 1,
    }
)
METRIC = "payments_changed_secrets_refused"


def set_password(secure_kafka: SecureBroker, password: str) -> None:
    """Have Kafka accept this password of the user, and no other one."""
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    alter(secure_kafka, UserScramCredentialUpsertion(USER, scram, password.encode()))


def alter(
    secure_kafka: SecureBroker, change: UserScramCredentialUpsertion | UserScramCredentialDeletion
) -> None:
    admin = secure_kafka.admin()  # which has to live until the answer
    for done in admin.alter_user_scram_credentials([change]).values():
        done.result(30)


@pytest.fixture
def user(secure_kafka: SecureBroker) -> Iterator[None]:
    set_password(secure_kafka, OLD)
    yield
    alter(secure_kafka, UserScramCredentialDeletion(USER, ScramMechanism.SCRAM_SHA_512))


@pytest.fixture
def mounted(tmp_path: Path, secure_kafka: SecureBroker) -> Secret:
    ca = Path(secure_kafka.ca_pem).read_text()
    return Secret(tmp_path / "mounted", username=USER, password=OLD, ca=ca)


@pytest.fixture
def topics(secure_kafka: SecureBroker) -> Topics:
    return Topics.fresh(secure_kafka)


def environ(secure_kafka: SecureBroker, mounted: Secret) -> dict[str, str]:
    return {
        "KAFKA_BROKERS": secure_kafka.sasl_ssl_bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME_FILE": str(mounted.path("username")),
        "KAFKA_SASL_PASSWORD_FILE": str(mounted.path("password")),
        "KAFKA_SSL_CA_LOCATION": str(mounted.path("ca")),
        **WATCHFUL,
    }


def swap(secure_kafka: SecureBroker, mounted: Secret, password: str) -> None:
    mounted.swap(username=USER, password=password, ca=Path(secure_kafka.ca_pem).read_text())


def refused(flow: Flow) -> object:
    """Return the variables that `/health` shows as refused."""
    return flow.health().get("refused_secrets")


def stops(flow: Flow) -> list[dict[str, object]]:
    """Return its stops, as logged; the engine writes lines of its own while it waits for a peer."""
    entries = [json.loads(line) for line in flow.log.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["event"] == "stopping"]


def complaints(flow: Flow) -> list[dict[str, object]]:
    """Return what it has logged of changed secrets that it cannot use."""
    return [entry for entry in flow.entries if "the old ones stay" in str(entry["event"])]


@pytest.mark.usefixtures("user")
def test_a_new_password_is_taken_over_once_kafka_has_it(
    secure_kafka: SecureBroker, topics: Topics, mounted: Secret, tmp_path: Path
) -> None:
    """It reaches the pod first: the old one stays, under load, until the new one holds."""
    with Flow(secure_kafka, topics, tmp_path, environ=environ(secure_kafka, mounted)) as flow:
        flow.wait_until_ready(LIMIT_S)
        flow.wait(lambda: f"{METRIC} 0.0" in flow.metrics(), LIMIT_S, "without a refusal")
        swap(secure_kafka, mounted, NEW)
        flow.wait(lambda: f"{METRIC} 1.0" in flow.metrics(), LIMIT_S, "aware of the refusal")
        assert refused(flow) == ["KAFKA_SASL_PASSWORD_FILE"]
        assert flow.get("/ready")[0] == 200
        send(secure_kafka, topics, mixed_requests(COUNT, seed=1))
        flow.wait_until_decided(COUNT, LIMIT_S)
        assert stops(flow) == []
        set_password(secure_kafka, NEW)
        flow.wait(lambda: bool(stops(flow)), LIMIT_S, "stopping")
        flow.wait_until_ready(LIMIT_S)
        send(secure_kafka, topics, mixed_requests(COUNT, seed=2))
        flow.wait_until_decided(2 * COUNT, LIMIT_S)
        flow.wait(lambda: f"{METRIC} 0.0" in flow.metrics(), LIMIT_S, "without a refusal")
        [stop] = stops(flow)
        assert stop["restart"] is True
        assert stop["reason"] == "secrets have changed: KAFKA_SASL_PASSWORD_FILE"
        assert flow.terminate() == 0
    reasons = [str(logged["reason"]) for logged in complaints(flow)]
    assert {logged["level"] for logged in complaints(flow)} == {"error"}
    assert any("Kafka refused the login" in reason for reason in reasons)
    # A busy Kafka may also have been too slow once.
    assert all(first != second for first, second in pairwise(reasons)), "each is logged once"
    for password in (OLD, NEW):
        assert password not in flow.log
    assert check(secure_kafka, topics).problems == []


@pytest.mark.usefixtures("user")
def test_a_wrong_password_and_a_wrong_authority_stop_nothing(
    secure_kafka: SecureBroker, topics: Topics, mounted: Secret, tmp_path: Path
) -> None:
    with Flow(secure_kafka, topics, tmp_path, environ=environ(secure_kafka, mounted)) as flow:
        flow.wait_until_ready(LIMIT_S)
        swap(secure_kafka, mounted, WRONG)
        flow.wait(lambda: f"{METRIC} 1.0" in flow.metrics(), LIMIT_S, "aware of the password")
        other = Path(secure_kafka.other_ca_pem).read_text()
        mounted.swap(username=USER, password=OLD, ca=other)
        authority = ["KAFKA_SSL_CA_LOCATION"]
        flow.wait(
            lambda: any(each["variables"] == authority for each in complaints(flow)),
            LIMIT_S,
            "aware of the authority",
        )
        send(secure_kafka, topics, mixed_requests(COUNT, seed=1))
        flow.wait_until_decided(COUNT, LIMIT_S)
        swap(secure_kafka, mounted, OLD)
        flow.wait(lambda: f"{METRIC} 0.0" in flow.metrics(), LIMIT_S, "content again")
        assert stops(flow) == []
        assert flow.terminate() == 0
    assert WRONG not in flow.log
    assert check(secure_kafka, topics).problems == []


@pytest.mark.usefixtures("user")
def test_new_secrets_restart_every_process_of_a_cluster(
    secure_kafka: SecureBroker, topics: Topics, mounted: Secret, tmp_path: Path
) -> None:
    """One of the two has a file that never changes: it goes along, as the same process."""
    addresses = ";".join(f"127.0.0.1:{port}" for port in free(2))
    (tmp_path / "password").write_text(OLD)
    watching = environ(secure_kafka, mounted)
    still = watching | {
        "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password"),
        "KAFKA_SSL_CA_LOCATION": secure_kafka.ca_pem,
    }
    with (
        Flow(secure_kafka, topics, tmp_path, "-i", "0", "-a", addresses, environ=watching) as first,
        Flow(secure_kafka, topics, tmp_path, "-i", "1", "-a", addresses, environ=still) as second,
    ):
        first.wait_until_ready(LIMIT_S)
        second.wait_until_ready(LIMIT_S)
        mounted.swap(
            username=USER, password=OLD, ca=Path(secure_kafka.ca_pem).read_text() + "\n# renewed\n"
        )
        second.wait(lambda: bool(stops(second)), LIMIT_S, "stopping")
        send(secure_kafka, topics, mixed_requests(COUNT, seed=1))
        first.wait(lambda: first.decided() + second.decided() == COUNT, LIMIT_S, "done")
        assert [stop["restart"] for flow in (first, second) for stop in stops(flow)] == [True, True]
        assert first.terminate() == 0
        assert second.wait_for_exit() == 0
    assert check(secure_kafka, topics).problems == []


def test_a_new_key_of_the_provider_ends_the_hold_of_a_revoked_one(
    secure_kafka: SecureBroker, topics: Topics, tmp_path: Path, provider: FakeProvider
) -> None:
    """Payments that were refused meanwhile wait, and are charged once."""
    provider.change(secret=OLD)
    mounted = Secret(tmp_path / "mounted", key=OLD)
    environ = {
        "GATEWAY": "http",
        "HTTP_GATEWAY_URL": provider.url,
        "HTTP_GATEWAY_CREDENTIALS_FILE": str(mounted.path("key")),
        **WATCHFUL,
    }
    ids = [f"{topics.prefix}-{n}" for n in range(COUNT)]
    with Flow(secure_kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready(LIMIT_S)
        provider.change(secret=NEW)
        send(secure_kafka, topics, map(request, ids))
        flow.wait(lambda: flow.health().get("status") == "held", LIMIT_S, "held")
        mounted.swap(key=WRONG)
        wrong = ["HTTP_GATEWAY_CREDENTIALS_FILE"]
        flow.wait(lambda: refused(flow) == wrong, LIMIT_S, "aware of the refusal")
        assert stops(flow) == []
        mounted.swap(key=NEW)
        flow.wait(lambda: bool(stops(flow)), LIMIT_S, "stopping")
        flow.wait_until_ready(LIMIT_S)
        flow.wait_until_decided(COUNT, LIMIT_S)
        # Not only until none is pending: before a lane has looked for what it has parked, none is.
        flow.wait(lambda: len(charged(provider, ids)) == COUNT, LIMIT_S, "done with charging")
        flow.wait(lambda: pending(flow) == 0, LIMIT_S, "without any pending")
        assert [stop["restart"] for stop in stops(flow)] == [True]
        assert flow.terminate() == 0
    assert charged(provider, ids) == dict.fromkeys(ids, 1)
    for key in (OLD, NEW, WRONG):
        assert key not in flow.log
    assert check(secure_kafka, topics).problems == []
