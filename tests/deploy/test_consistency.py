"""The agreement of the manifests and the code, both ways."""

import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

import dataflow
from dataflow.config import times
from dataflow.config.settings import Settings
from dataflow.config.times import Keys
from dataflow.config.variables import VARIABLES
from dataflow.core.lanes import MAX_LANES
from dataflow.errors import SettingsError
from dataflow.kafka.lane_names import lane_group, transactional_id
from dataflow.kafka.preflight import LANE_LOG_CONFIG, PENDING_CONFIG
from dataflow.service.command_line import Launch
from dataflow.web import healthcheck
from tests import ROOT
from tests.deploy.manifests import (
    CLUSTER,
    K8S,
    SERVICE,
    applied,
    container,
    environment,
    flat,
    one,
    overlay,
    read,
    strings,
)
from tests.deploy.test_manifests import needs_tools

OF_BYTEWAX = {
    "BYTEWAX_RECOVERY_DIRECTORY",
    "BYTEWAX_SNAPSHOT_INTERVAL",
    "BYTEWAX_RECOVERY_BACKUP_INTERVAL",
    "BYTEWAX_WORKERS_PER_PROCESS",
    "BYTEWAX_POD_NAME",
    "BYTEWAX_STATEFULSET_NAME",
    "BYTEWAX_HOSTFILE_PATH",
}
NOT_SET = {
    "HOST": "every address, whichever the cluster's probes and scrapes come by",
    "KAFKA_SASL_USERNAME": "its _FILE is",
    "KAFKA_SASL_PASSWORD": "its _FILE is",
    "KAFKA_OAUTH_TOKEN_URL": "only with OAUTHBEARER, instead of SCRAM",
    "KAFKA_OAUTH_CLIENT_ID": "the same",
    "KAFKA_OAUTH_CLIENT_SECRET": "the same; its _FILE would be",
    "KAFKA_OAUTH_SCOPE": "the same",
    "KAFKA_OAUTH_CA_LOCATION": "the same",
    "KAFKA_AWS_REGION": "only with AWS_MSK_IAM, instead of SCRAM",
    "KAFKA_CLIENT_PROPERTIES_FILE": "nothing else needs to be set for Strimzi",
    "KAFKA_SSL_CERTIFICATE_LOCATION": "only for mutual TLS, instead of SCRAM",
    "KAFKA_SSL_KEY_LOCATION": "the same",
    "KAFKA_SSL_KEY_PASSWORD": "the same",
    "KAFKA_START": "for one start, when it is refused without",
    "SCHEMA_REGISTRY_URL": "only the user has one, or none",
    "SCHEMA_REGISTRY_CREDENTIALS": "the same; its _FILE would be",
    "SCHEMA_REGISTRY_CA": "the same",
    "GATEWAY_RATE": "only the user can say what the provider allows",
    "GATEWAY": "only the user can choose who charges the payments",
    "HTTP_GATEWAY_URL": "only with GATEWAY=http",
    "HTTP_GATEWAY_MAPPING": "the same",
    "HTTP_GATEWAY_CREDENTIALS": "the same; its _FILE would be",
    "HTTP_GATEWAY_CA": "the same",
    "HTTP_GATEWAY_CERTIFICATE": "the same",
    "HTTP_GATEWAY_KEY": "the same",
    "STRIPE_API_KEY": "only with GATEWAY=stripe; its _FILE would be",
    "STRIPE_URL": "another address is for tests",
}
"""Variables that the manifests do without, and why."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return parse(environment(applied()), tmp_path)


def parse(environ: Mapping[str, str], directory: Path) -> Settings:
    """Read them as the pod would, with files for its mounted Secrets, and the gateway chosen."""
    (directory / "file").write_text("anything")
    return Settings.from_env(
        {"GATEWAY": "simulated"}
        | {
            name: str(directory / "file") if value.startswith("/etc/payments/") else value
            for name, value in environ.items()
        }
    )


# ---- environment ----


def test_every_variable_in_the_manifests_is_one_that_is_read() -> None:
    ours = {v.name for v in VARIABLES} | {f"{v.name}_FILE" for v in VARIABLES if v.secret}
    assert environment(applied()).keys() - ours - OF_BYTEWAX == set()


def test_every_variable_that_is_read_is_in_the_manifests() -> None:
    missing = {v.name for v in VARIABLES} - environment(applied()).keys()
    assert missing == NOT_SET.keys()


def test_the_service_accepts_its_configuration(settings: Settings) -> None:
    assert settings.kafka.uses_sasl
    assert settings.kafka.brokers == "kafka-cluster-kafka-bootstrap.kafka.svc.cluster.local:9093"


def test_the_manifests_lack_nothing_but_the_choice_of_the_gateway(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(environment(applied()) | {"GATEWAY": ""}, tmp_path)
    [problem] = caught.value.problems
    assert problem.startswith("GATEWAY: required: ")


def test_the_manifest_shows_where_to_name_the_gateway() -> None:
    """The comment that a user finds there, with a value put in, is a setting."""
    text = (K8S / "20-configmap.yaml").read_text()
    [line] = re.findall(r"^  # (GATEWAY: .*)$", text, re.MULTILINE)
    changed = yaml.safe_load(text.replace(f"# {line}", "GATEWAY: simulated"))
    assert changed["data"]["GATEWAY"] == "simulated"


def test_a_pod_that_cannot_start_has_the_reason_in_its_description() -> None:
    """`kubectl describe pod` then ends with the lines that name the settings."""
    service = container(one(applied(), "StatefulSet"))
    assert service["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_every_file_it_reads_is_mounted_from_a_secret_with_that_key() -> None:
    pod = one(applied(), "StatefulSet")["spec"]["template"]["spec"]
    mounts = {
        m["mountPath"]: m["name"] for m in container(one(applied(), "StatefulSet"))["volumeMounts"]
    }
    secrets = {v["name"]: v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
    files = [Path(v) for v in environment(applied()).values() if v.startswith("/etc/payments/")]
    assert len(files) == 3
    for variant in ("secret.yaml", "external-secret.yaml"):
        objects = read(K8S / "examples" / variant)
        for file in files:
            [found] = [
                o for o in objects if o["metadata"]["name"] == secrets[mounts[str(file.parent)]]
            ]
            assert file.name in set(strings(found)), (variant, file)


def test_only_the_recovery_directory_and_tmp_can_be_written() -> None:
    service = container(one(applied(), "StatefulSet"))
    writable = {m["mountPath"] for m in service["volumeMounts"] if not m.get("readOnly")}
    assert writable == {environment(applied())["BYTEWAX_RECOVERY_DIRECTORY"], "/tmp"}
    assert service["securityContext"]["readOnlyRootFilesystem"] is True


# ---- time ----


@pytest.mark.parametrize("source", ["flat", pytest.param("cluster", marks=needs_tools)])
def test_a_stop_has_the_time_that_it_may_take(source: str, settings: Settings) -> None:
    """The pod has as long as its settings state; a start would refuse that if it is too short."""
    objects = applied() if source == "flat" else overlay()
    pod = one(objects, "StatefulSet")["spec"]["template"]["spec"]
    assert settings.stop_grace_s == pod["terminationGracePeriodSeconds"]
    assert list(times.misfits(settings, Keys(24 * 3600, 3600, has_lookup=True))) == []


# ---- ports ----


def test_the_ports_are_those_that_it_listens_on(settings: Settings) -> None:
    service = container(one(applied(), "StatefulSet"))
    ports = {port["name"]: port["containerPort"] for port in service["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.metrics_port}
    exposed = {port["targetPort"] for port in one(applied(), "Service")["spec"]["ports"]}
    assert exposed == set(ports)


def test_the_network_lets_in_and_out_exactly_what_is_used(settings: Settings) -> None:
    policy = one(applied(), "NetworkPolicy")["spec"]
    peers = one(applied(), "Service", f"{SERVICE}-peers")["spec"]["ports"][0]["port"]
    kafka = int(settings.kafka.brokers.rpartition(":")[2])
    ports = {
        side: {port["port"] for rule in policy[side] for port in rule["ports"]}
        for side in ("ingress", "egress")
    }
    assert ports["ingress"] == {settings.port, settings.metrics_port, peers}
    assert ports["egress"] == {53, kafka, peers}
    deny = one(applied(), "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_probes_have_their_own_paths() -> None:
    service = container(one(applied(), "StatefulSet"))
    asked = {
        name: service[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")
    }
    assert asked == {
        "startup": {"path": "/live", "port": "http"},
        "liveness": {"path": "/live", "port": "http"},
        "readiness": {"path": "/ready", "port": "http"},
    }


@pytest.mark.parametrize("path", ["70-podmonitor.yaml", "examples/servicemonitor.yaml"])
def test_prometheus_finds_the_metrics(path: str) -> None:
    [monitor] = read(K8S / path)
    spec = monitor["spec"]
    [endpoint] = spec.get("podMetricsEndpoints") or spec["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")
    pod = one(applied(), "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    service = one(applied(), "Service")["metadata"]["labels"]
    for labels in (pod, service):
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        assert labels[spec["jobLabel"]] == SERVICE


def test_the_image_probes_the_default_port() -> None:
    """Without `PORT`, the health check must ask where the service listens without it."""
    [port] = [variable.default for variable in VARIABLES if variable.name == "PORT"]
    with (
        patch("http.client.HTTPConnection", side_effect=AssertionError) as connection,
        pytest.raises(AssertionError),
    ):
        healthcheck.alive({})
    assert connection.call_args.args == ("127.0.0.1", int(port))


@pytest.mark.parametrize(
    ("host", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "::1"), ("10.0.0.7", "10.0.0.7")],  # noqa: S104
)
def test_the_image_probes_where_the_service_listens(host: str, asked: str) -> None:
    with (
        patch("http.client.HTTPConnection", side_effect=AssertionError) as connection,
        pytest.raises(AssertionError),
    ):
        healthcheck.alive({"HOST": host, "PORT": "3999"})
    assert connection.call_args.args == (asked, 3999)


# ---- Kafka ----


def acls() -> dict[tuple[str, str, str], set[str]]:
    rules = one(applied(), "KafkaUser")["spec"]["authorization"]["acls"]
    found = {
        (r["resource"]["type"], r["resource"]["patternType"], r["resource"]["name"]): set(
            r["operations"]
        )
        for r in rules
    }
    assert len(found) == len(rules)
    return found


def test_the_topics_are_those_of_the_service(settings: Settings) -> None:
    kafka = settings.kafka
    outputs = {kafka.topic_processed, kafka.topic_failed, kafka.topic_audit}
    topics = {o["metadata"]["name"]: o["spec"] for o in applied() if o["kind"] == "KafkaTopic"}
    ours = {kafka.topic_lane_log, kafka.topic_pending}
    assert topics.keys() == outputs | ours | {kafka.topic_requested}
    for name in kafka.topics_written:
        assert topics[name]["config"]["max.message.bytes"] >= kafka.message_max_bytes
    log = topics[kafka.topic_lane_log]["config"]
    assert {name: str(log[name]) for name in LANE_LOG_CONFIG} == LANE_LOG_CONFIG
    pending = topics[kafka.topic_pending]
    assert {name: str(pending["config"][name]) for name in PENDING_CONFIG} == PENDING_CONFIG
    assert pending["partitions"] == 1


def test_the_access_rules_are_about_what_the_service_names(settings: Settings) -> None:
    """Topics, group, lane groups and transactional ids; `test_access` has the operations."""
    kafka = settings.kafka
    topics = {kafka.topic_requested, *kafka.topics_written}
    named: dict[tuple[str, str], set[str]] = {}
    for kind, pattern, name in acls():
        named.setdefault((kind, pattern), set()).add(name)
    assert named.pop(("topic", "literal")) == topics
    assert named.pop(("group", "literal")) == {kafka.group_id}
    [groups] = named.pop(("group", "prefix"))
    [ids] = named.pop(("transactionalId", "prefix"))
    assert named == {}
    for lane in (0, MAX_LANES - 1):
        assert re.fullmatch(rf"{re.escape(groups)}\d+", lane_group(kafka.group_id, lane))
        assert re.fullmatch(rf"{re.escape(ids)}\d+", transactional_id(kafka.group_id, lane))


# ---- the cluster ----


@needs_tools
def test_the_host_file_has_a_line_for_every_process(tmp_path: Path) -> None:
    objects = overlay()
    stateful_set = one(objects, "StatefulSet")
    service, spec = container(stateful_set), stateful_set["spec"]
    environ = environment(objects)
    [hosts] = [o for o in objects if o["metadata"]["name"].startswith(f"{SERVICE}-hosts-")]
    peers = one(objects, "Service", spec["serviceName"])
    [port] = [p["containerPort"] for p in service["ports"] if p["name"] == "peers"]
    namespace = stateful_set["metadata"]["namespace"]
    assert hosts["data"]["hosts.txt"].split() == [
        f"{SERVICE}-{n}.{spec['serviceName']}.{namespace}.svc.cluster.local:{port}"
        for n in range(spec["replicas"])
    ]
    assert peers["spec"]["clusterIP"] == "None"
    assert peers["spec"]["publishNotReadyAddresses"] is True
    assert spec["podManagementPolicy"] == "Parallel"

    mounts = {m["mountPath"]: m["name"] for m in service["volumeMounts"]}
    volumes = {v["name"]: v for v in spec["template"]["spec"]["volumes"]}
    file = Path(environ["BYTEWAX_HOSTFILE_PATH"])
    assert volumes[mounts[str(file.parent)]]["configMap"]["name"] == hosts["metadata"]["name"]

    # What the code makes of it, in the last pod.
    (tmp_path / file.name).write_text(hosts["data"][file.name])
    launch = Launch.read(
        [],
        environ
        | {
            "BYTEWAX_POD_NAME": f"{SERVICE}-{spec['replicas'] - 1}",
            "BYTEWAX_HOSTFILE_PATH": str(tmp_path / file.name),
        },
    )
    assert (launch.process_id, launch.processes) == (spec["replicas"] - 1, spec["replicas"])
    lanes = parse(environ, tmp_path).lanes
    partitions = one(objects, "KafkaTopic", "payments.payment-requested")["spec"]["partitions"]
    assert lanes >= launch.processes * launch.workers
    assert partitions > (launch.processes - 1) * launch.workers


def test_the_overlay_has_every_flat_file() -> None:
    listed = yaml.safe_load((CLUSTER / "kustomization.yaml").read_text())["resources"]
    assert [(CLUSTER / path).resolve() for path in listed] == flat()


@needs_tools
def test_the_overlay_only_adds() -> None:
    """Beside how many there are, everything is as with one process."""
    flat_set, cluster_set = one(applied(), "StatefulSet"), one(overlay(), "StatefulSet")
    differences = set(_differences(flat_set["spec"], cluster_set["spec"]))
    assert differences == {
        "replicas",
        "updateStrategy",
        "template.spec.containers",
        "template.spec.volumes",
    }


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for key in one.keys() | other.keys()
            for found in _differences(one.get(key), other.get(key), f"{path}.{key}".strip("."))
        ]
    return [] if one == other else [path]


# ---- the image ----


def test_the_image_is_of_this_version() -> None:
    image = container(one(applied(), "StatefulSet"))["image"]
    assert image.rpartition(":")[2] == dataflow.__version__
    for path in (ROOT / "k8s/waxctl/values.yaml", ROOT / "compose.yaml"):
        assert f"{dataflow.__version__}" in path.read_text(), path


def test_the_image_has_the_newest_python_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [python] = re.findall(
        r"^ARG PYTHON=python:(\d+\.\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    major, minor = map(int, python.split("."))
    assert project["requires-python"].endswith(f"<{major}.{minor + 1}")


def test_the_scripts_of_the_chart_are_plain_files() -> None:
    """The chart runs them as `sh ./entrypoint.sh`; an image layer keeps their mode."""
    for path in (K8S / "waxctl").glob("*.sh"):
        assert path.stat().st_mode & stat.S_IROTH
