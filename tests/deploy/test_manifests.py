"""Every manifest is what its API accepts, and what the linters have no objection to."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.deploy.manifests import (
    CLUSTER,
    K8S,
    Object,
    applied,
    flat,
    one,
    overlay,
    problems,
    read,
    tool,
)

OBJECTS = [
    pytest.param(found, id=f"{path.relative_to(K8S)}:{found['kind']}/{found['metadata']['name']}")
    for path in [*flat(), *sorted((K8S / "examples").glob("*.yaml"))]
    for found in read(path)
]
CI = os.environ.get("CI") == "true"
needs_tools = pytest.mark.skipif(
    not CI and not (tool("kustomize") and tool("kube-score")),
    reason="needs kustomize and kube-score (`make tools`, with Go)",
)


@pytest.mark.parametrize("found", OBJECTS)
def test_an_object_is_of_its_schema(found: Object) -> None:
    assert problems(found) == []


@needs_tools
def test_the_cluster_overlay_is_of_its_schemas() -> None:
    assert [problem for found in overlay() for problem in problems(found)] == []


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("StatefulSet", ("spec", "template", "spec")),
        ("KafkaUser", ("spec", "authorization")),
        ("PodMonitor", ("spec",)),
        ("NetworkPolicy", ("spec",)),
    ],
)
def test_a_misspelt_field_would_be_noticed(kind: str, path: tuple[str, ...]) -> None:
    """Kubernetes drops unknown fields of many kinds without a word."""
    found = copy.deepcopy(one(applied(), kind))
    part = found
    for name in path:
        part = part[name]
    part["terminationGracePeriodSecond"] = 120
    assert problems(found) != []


def test_the_dockerfile_has_no_hadolint_finding() -> None:
    # It comes with the development dependencies, so it is beside this interpreter.
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@needs_tools
@pytest.mark.parametrize("shape", ["flat", "cluster"])
def test_kube_score_has_no_objection(shape: str, tmp_path: Path) -> None:
    """Exceptions, and why, are annotations in the manifests."""
    files = [str(path) for path in flat()]
    if shape == "cluster":
        files = [str(tmp_path / "cluster.yaml")]
        Path(files[0]).write_text(_build())
    optional = ["container-seccomp-profile", "container-ports-check"]
    command = [str(tool("kube-score")), "score", "--output-format", "ci", "--exit-one-on-warning"]
    command += [f"--enable-optional-test={name}" for name in optional]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    objections = [
        line for line in done.stdout.splitlines() if not line.startswith(("[OK]", "[SKIPPED]"))
    ]
    assert objections == []
    assert done.returncode == 0, done.stderr
    assert "[OK] payments-service/payments apps/v1/StatefulSet" in done.stdout


def _build() -> str:
    command = [str(tool("kustomize")), "build", "--load-restrictor", "LoadRestrictionsNone"]
    return subprocess.run(
        [*command, str(CLUSTER)], capture_output=True, text=True, check=True
    ).stdout
