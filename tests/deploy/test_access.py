"""The access rules of the manifest, on a real Kafka: they are enough, and all are used."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.deploy.manifests import applied, environment, one
from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, request, send
from tests.support.hooks.tuning import TRIM_APART_S, TRIM_LEAST_S, WATCH_EVERY_S, tuned
from tests.support.invariants import check
from tests.support.kafka import SecureBroker

COUNT = 300
AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    # Clients of the plaintext listener: the tests, and the broker itself.
    "super.users": "User:ANONYMOUS",
}
Rule = tuple[str, str, str, str]
"""Resource type, pattern type, name and operation, as Kafka writes them."""


class AsDeployed(Topics):
    """The names of the manifests."""

    @property
    def requested(self) -> str:
        return environment(applied())["KAFKA_TOPIC_REQUESTED"]

    @property
    def outputs(self) -> tuple[str, str, str]:
        values = environment(applied())
        processed, failed, audit = (
            values[f"KAFKA_TOPIC_{name}"] for name in ("PROCESSED", "FAILED", "AUDIT")
        )
        return processed, failed, audit

    @property
    def lane_log(self) -> str:
        return environment(applied())["KAFKA_TOPIC_LANE_LOG"]

    @property
    def pending(self) -> str:
        return environment(applied())["KAFKA_TOPIC_PENDING"]

    @property
    def group(self) -> str:
        return environment(applied())["KAFKA_GROUP_ID"]


@pytest.fixture
def guarded() -> Iterator[SecureBroker]:
    """Yield a broker that allows nothing without a rule, and logs the rule it went by."""
    logs_all = ("-Xmx512m", "-Dkafkatest.authorizer=debug")
    with SecureBroker.start(config=AUTHORIZER, java_options=logs_all) as broker:
        yield broker


def rules() -> set[Rule]:
    """Return those of the manifest."""
    words = {"transactionalId": "TRANSACTIONAL_ID", "prefix": "PREFIXED"}
    found = one(applied(), "KafkaUser")["spec"]["authorization"]["acls"]
    return {
        (
            words.get(rule["resource"]["type"], rule["resource"]["type"].upper()),
            words.get(rule["resource"]["patternType"], rule["resource"]["patternType"].upper()),
            rule["resource"]["name"],
            re.sub("(?<=.)([A-Z])", r"_\1", operation).upper(),
        )
        for rule in found
        for operation in rule["operations"]
    }


def grant(broker: SecureBroker, wanted: set[Rule]) -> None:
    """Grant them, as Strimzi's user operator does."""
    bindings = [
        AclBinding(
            ResourceType[kind],
            name,
            ResourcePatternType[pattern],
            f"User:{broker.user}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for kind, pattern, name, operation in wanted
    ]
    admin = broker.admin()
    for created in admin.create_acls(bindings).values():
        created.result(20)


def login(broker: SecureBroker) -> dict[str, str]:
    return {
        "KAFKA_BROKERS": broker.sasl_ssl_bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": broker.user,
        "KAFKA_SASL_PASSWORD": broker.password,
        "KAFKA_SSL_CA_LOCATION": broker.ca_pem,
    }


def test_settings_that_the_user_may_not_see_are_a_warning_with_the_rule_that_is_missing(
    guarded: SecureBroker, tmp_path: Path
) -> None:
    topics = AsDeployed("")
    topics.create(guarded)
    grant(guarded, {rule for rule in rules() if rule[3] != "DESCRIBE_CONFIGS"})
    send(guarded, topics, mixed_requests(COUNT, seed=1))
    with Flow(guarded, topics, tmp_path, environ=login(guarded)) as flow:
        flow.wait_until_decided(COUNT)
        assert flow.terminate() == 0
    warned = {
        each["topic"]: each["event"] for each in flow.entries if "--operation" in each["event"]
    }
    assert set(warned) == set(topics.written)
    for topic, event in warned.items():
        assert "may not see" in event
        assert f" --operation DescribeConfigs --topic {topic} --bootstrap-server" in event


def test_the_rules_are_enough_and_none_is_unused(guarded: SecureBroker, tmp_path: Path) -> None:
    topics = AsDeployed("")
    topics.create(guarded)
    grant(guarded, rules())
    environ = login(guarded)
    never = request("never:unavailable:999999999")
    send(guarded, topics, iter([never]))
    parks_early = environ | {"GATEWAY_PARK_AFTER": "1s"}
    for seed in (1, 2):
        send(guarded, topics, mixed_requests(COUNT, seed))
        # The first run parks a payment, the second one reads it back.
        with Flow(guarded, topics, tmp_path, environ=parks_early) as flow:
            flow.wait_until_decided(seed * COUNT + 1)
            assert flow.terminate() == 0
    assert check(guarded, topics).problems == []
    trims_soon = {
        "DEDUPE_WINDOW": "1s",
        **tuned({WATCH_EVERY_S: 0.2, TRIM_LEAST_S: 0.2, TRIM_APART_S: 0}),
    }
    with Flow(guarded, topics, tmp_path, environ=environ | trims_soon) as flow:
        flow.wait_until_ready()

        def has_trimmed() -> bool:
            send(
                guarded, topics, iter(request(f"pay-{time.monotonic_ns()}-{n}") for n in range(30))
            )
            return "lane log trimmed" in flow.log

        flow.wait(has_trimmed, LIMIT_S, "done trimming")
        assert flow.terminate() == 0

    log = "\n".join(path.read_text() for path in guarded.directory.glob("*.log"))
    decisions = re.findall(rf"Principal = User:{guarded.user} is (\w+) .*", log)
    assert set(decisions) == {"Allowed"}
    applied_rules = re.findall(
        rf"Principal = User:{guarded.user} is Allowed .* based on rule .*?"
        r"resourceType=(\w+), resourceName=([^,]+), patternType=(\w+),.*? operation=(\w+)",
        log,
    )
    used = {(kind, pattern, name, operation) for kind, name, pattern, operation in applied_rules}
    assert used == rules()
