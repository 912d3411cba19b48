"""`compose.yaml`: consistent with the code, hardened, and of a Kafka that accepts its settings."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import dataflow
from dataflow.config.settings import Settings
from tests import ROOT
from tests.dashboard.test_promql import needs_prometheus
from tests.deploy.manifests import applied, one
from tests.support.kafka import Cluster, distribution
from tests.support.kafka.cluster import run_java

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
SERVICE = SERVICES["payments-service"]


@pytest.fixture
def settings() -> Settings:
    return Settings.from_env(SERVICE["environment"])


def test_the_service_accepts_its_configuration(settings: Settings) -> None:
    assert settings.kafka.brokers == "kafka:19092"
    assert SERVICE["image"] == f"payments-service:{dataflow.__version__}"


def test_every_file_that_is_mounted_exists() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [volume.partition(":")[0] for volume in volumes if volume.startswith(".")]
    assert [file for file in files if not (ROOT / file).exists()] == []
    named = {volume.partition(":")[0] for volume in volumes} - set(files)
    assert named == COMPOSE["volumes"].keys()


def test_all_ports_are_those_of_this_machine_only(settings: Settings) -> None:
    ports = [port.split(":") for service in SERVICES.values() for port in service.get("ports", [])]
    assert {address for address, _, _ in ports} == {"127.0.0.1"}
    assert len({port for _, port, _ in ports}) == len(ports)
    assert [p.split(":")[2] for p in SERVICE["ports"]] == [str(settings.port)]


def test_the_service_is_hardened_as_in_kubernetes() -> None:
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in SERVICE, "the image has the right one"
    pod = one(applied(), "StatefulSet")["spec"]["template"]["spec"]
    assert SERVICE["stop_grace_period"] == f"{pod['terminationGracePeriodSeconds']}s"
    assert SERVICE["stop_grace_period"] == SERVICE["environment"]["STOP_GRACE_PERIOD"]


def test_the_topics_are_made_before_the_service_starts(settings: Settings) -> None:
    kafka = settings.kafka
    [script] = SERVICES["topics"]["command"]
    [names] = [line for line in script.replace("\\\n", "").splitlines() if line.startswith("for ")]
    assert set(names.removeprefix("for topic in ").removesuffix("; do").split()) == {
        kafka.topic_requested,
        kafka.topic_processed,
        kafka.topic_failed,
        kafka.topic_audit,
    }
    assert kafka.brokers in script
    subprocess.run(["bash", "-n", "-c", script.replace("$$", "$")], check=True)


def test_kafka_accepts_its_settings(kafka: Cluster, tmp_path: Path) -> None:
    """The image makes properties of its variables; laying out a data directory checks them."""
    assert kafka
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{distribution.version()}"
    values = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    values["log.dirs"] = str(tmp_path / "data")
    properties = tmp_path / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    command = ["format", "--config", str(properties), "--cluster-id", "4L6g3nShT-eMCtK--X86sw"]
    assert "Formatting" in run_java("kafka.tools.StorageTool", command)


@needs_prometheus
def test_prometheus_scrapes_the_service_and_loads_the_alerts(
    settings: Settings, tmp_path: Path
) -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["prometheus"]["volumes"])
    for source, target in mounts.items():
        if source.startswith("."):
            shutil.copy(ROOT / source, tmp_path / Path(target).name)
    config = tmp_path / "prometheus.yml"
    subprocess.run(["promtool", "check", "config", str(config)], check=True)
    [job] = yaml.safe_load(config.read_text())["scrape_configs"]
    [targets] = job["static_configs"]
    assert targets["targets"] == [f"payments-service:{settings.metrics_port}"]
    # The label `job`, as the PodMonitor makes it.
    assert job["job_name"] == "payments-service"


def test_grafana_finds_its_data_and_the_dashboard() -> None:
    provisioning = ROOT / "grafana" / "provisioning"
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((provisioning / "dashboards/payments.yaml").read_text())[
        "providers"
    ]
    dashboard = Path(mounts["./grafana/dashboard.json"])
    assert provider["options"]["path"] == str(dashboard.parent)
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == str(dashboard)


def test_every_image_is_of_a_fixed_version() -> None:
    for service in SERVICES.values():
        tag = service["image"].partition(":")[2]
        assert tag.strip("v")[0].isdigit(), service["image"]
