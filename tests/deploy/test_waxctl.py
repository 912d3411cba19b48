"""The values and the patch for Bytewax's Helm chart; the chart itself is not here to be rendered.

`waxctl` is closed source, and neither it nor the chart is in a package registry. What the chart
reads (0.8.1) is listed below; `docs/operations.md` has the command that renders it.
"""

import ast
from typing import Any

import yaml

import dataflow
from dataflow.config.variables import VARIABLES
from tests import ROOT
from tests.deploy.manifests import K8S, SERVICE, applied, container, environment, one, read
from tests.deploy.test_consistency import OF_BYTEWAX

READ_BY_THE_CHART = {
    "nameOverride",
    "containerName",
    "image.repository",
    "image.tag",
    "image.pullPolicy",
    "podSecurityContext",
    "securityContext",
    "api.enabled",
    "configuration.pythonFileName",
    "configuration.processesCount",
    "configuration.workersPerProcess",
    "configuration.configMap.create",
    "configuration.configMap.customName",
    "configuration.recovery.enabled",
    "configuration.recovery.partsCount",
    "configuration.recovery.snapshotInterval",
    "configuration.recovery.backupInterval",
    "configuration.recovery.persistence.size",
    "resources",
    "extraSecretMounts",
    "env",
}
"""As paths; below the last part of each, the chart takes whatever there is."""
OF_THE_CHART = {"BYTEWAX_DATAFLOW_API_CACHE_PATH", "RUST_LOG"}
"""Variables that the chart sets wrongly for us, so that we set them again."""


def values() -> dict[str, Any]:
    found = yaml.safe_load((K8S / "waxctl" / "values.yaml").read_text())
    assert isinstance(found, dict)
    return found


def paths(part: Any, path: str = "") -> set[str]:
    if path in READ_BY_THE_CHART or not isinstance(part, dict):
        return {path}
    return {
        found for name, each in part.items() for found in paths(each, f"{path}.{name}".strip("."))
    }


def test_the_chart_reads_every_value() -> None:
    assert paths(values()) <= READ_BY_THE_CHART


def test_the_service_reads_every_variable() -> None:
    ours = {v.name for v in VARIABLES} | {f"{v.name}_FILE" for v in VARIABLES if v.secret}
    assert set(values()["env"]) - ours - OF_BYTEWAX == OF_THE_CHART


def test_variables_have_the_same_values_as_without_waxctl() -> None:
    with_us = environment(applied())
    for name, value in values()["env"].items():
        if name not in OF_THE_CHART:
            assert with_us[name] == value, name


def test_it_is_as_hardened_as_without_waxctl() -> None:
    ours = one(applied(), "StatefulSet")["spec"]["template"]["spec"]
    assert values()["podSecurityContext"] == ours["securityContext"]
    mine = container(one(applied(), "StatefulSet"))["securityContext"]
    assert values()["securityContext"] | {"privileged": False} == {
        **mine,
        "capabilities": {"drop": ["ALL"], "add": []},
    }
    assert values()["resources"] == container(one(applied(), "StatefulSet"))["resources"]


def test_the_patch_makes_up_for_the_gaps_of_the_chart() -> None:
    [patch] = read(K8S / "waxctl" / "statefulset.yaml")
    [ours] = [o for o in applied() if o["kind"] == "StatefulSet"]
    pod, patched = (o["spec"]["template"]["spec"] for o in (ours, patch))
    for name in (
        "automountServiceAccountToken",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
    ):
        assert patched[name] == pod[name]
    assert container(patch)["name"] == values()["containerName"]
    for name in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
        assert container(patch)[name] == container(ours)[name]


def test_the_labels_are_those_that_the_other_manifests_select() -> None:
    policy = one(applied(), "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert policy == {"app.kubernetes.io/name": values()["nameOverride"]}
    assert values()["nameOverride"] == SERVICE


def test_the_image_and_the_file_that_is_deployed() -> None:
    repository, _, tag = container(one(applied(), "StatefulSet"))["image"].rpartition(":")
    assert values()["image"]["repository"] == repository
    assert values()["image"]["tag"] == f"{tag}-waxctl" == f"{dataflow.__version__}-waxctl"
    shim = K8S / "waxctl" / values()["configuration"]["pythonFileName"]
    [_, imported, *_] = ast.parse(shim.read_text()).body
    assert ast.unparse(imported) == "from dataflow.flow import flow"
    assert "FROM runtime AS waxctl" in (ROOT / "Dockerfile").read_text()
