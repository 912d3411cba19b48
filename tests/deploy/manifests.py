"""The contents of `k8s/`, as data, and a strict check of each object against its kind's schema."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

from tests import ROOT

K8S = ROOT / "k8s"
CLUSTER = K8S / "overlays" / "cluster"
TOOLS = ROOT / ".tools"
CRDS = Path(__file__).parent / "crds"
SERVICE = "payments-service"

Object = dict[str, Any]


def flat() -> list[Path]:
    """Return the files that `kubectl apply -f k8s/` takes, in its order."""
    return sorted(path for path in K8S.iterdir() if path.suffix in {".yaml", ".yml", ".json"})


@cache
def read(path: Path) -> list[Object]:
    """Return the objects of one file; shared, so never to be changed."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found is not None]


def applied() -> list[Object]:
    """Return the objects that `kubectl apply -f k8s/` creates."""
    return [found for path in flat() for found in read(path)]


def one(objects: list[Object], kind: str, name: str = SERVICE) -> Object:
    """Return the object of a kind and name."""
    [found] = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def container(stateful_set: Object) -> Object:
    """Return the one container of its pods."""
    [found] = stateful_set["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(objects: list[Object]) -> dict[str, str]:
    """Return the literal variables that a pod of the service gets."""
    service = container(one(objects, "StatefulSet"))
    values: dict[str, str] = {}
    for source in service["envFrom"]:
        values |= one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    return values | {v["name"]: v["value"] for v in service.get("env", []) if "value" in v}


def tool(name: str) -> str | None:
    """Return where a program is that `make tools` installs; None where it is not."""
    return shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")


@cache
def overlay() -> list[Object]:
    """Return the objects kustomize makes of the cluster overlay; its warnings are failures."""
    command = [str(tool("kustomize")), "build", "--load-restrictor", "LoadRestrictionsNone"]
    done = subprocess.run([*command, str(CLUSTER)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def problems(found: Object) -> list[str]:
    """Return what the API server would refuse, and what it would drop without a word."""
    group, _, version = found["apiVersion"].rpartition("/")
    for crd in _crds():
        if (crd["group"], crd["version"], crd["kind"]) == (group, version, found["kind"]):
            errors = Draft202012Validator(_strict(crd["schema"])).iter_errors(found)
            return [f"{error.json_path}: {error.message}" for error in errors]
    try:
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.path}: {error.message}"]
    return []


@cache
def _crds() -> list[Object]:
    return [json.loads(path.read_text()) for path in sorted(CRDS.glob("*.json"))]


def _strict(schema: Any) -> Any:
    """Return the same schema, with unknown fields as errors; as in `kubectl apply`."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {
        key: {name: _strict(each) for name, each in value.items()}
        if key == "properties"
        else _strict(value)
        for key, value in schema.items()
    }
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


def strings(found: Any) -> Iterator[str]:
    """Yield every text in a piece of YAML, keys included."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield str(key)
            yield from strings(value)
    elif isinstance(found, list):
        for each in found:
            yield from strings(each)
    elif isinstance(found, str):
        yield found
