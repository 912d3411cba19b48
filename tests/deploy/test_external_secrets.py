"""The examples for the External Secrets Operator make the Secrets that the service mounts."""

import copy
from pathlib import Path

import pytest

from tests.deploy.manifests import K8S, Object, problems, read

EXAMPLES = K8S / "examples"
FILES = sorted(EXAMPLES.glob("external-secret*.yaml"))
WITH_STORE = [path for path in FILES if path.stem != "external-secret"]
"""Strimzi's Secrets are in the same cluster, so its store is the user's to define."""
PLAIN = [
    found
    for path in (EXAMPLES / "secret.yaml", EXAMPLES / "gateway.yaml")
    for found in read(path)
    if found["kind"] == "Secret"
]


def of_kind(path: Path, kind: str) -> list[Object]:
    return [found for found in read(path) if found["kind"] == kind]


def keys(external: Object) -> set[str]:
    """Return the keys of the Secret that it makes."""
    template = external["spec"]["target"].get("template", {}).get("data")
    return set(template or (entry["secretKey"] for entry in external["spec"]["data"]))


def test_there_is_one_for_strimzi_for_vault_and_for_aws() -> None:
    assert {path.stem for path in FILES} == {
        "external-secret",
        "external-secret-aws",
        "external-secret-vault",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_secret_has_the_keys_of_the_plain_one_of_its_name(path: Path) -> None:
    plain = {found["metadata"]["name"]: set(found["stringData"]) for found in PLAIN}
    made = {each["spec"]["target"]["name"]: keys(each) for each in of_kind(path, "ExternalSecret")}
    known = made.keys() & plain.keys()
    assert known
    assert {name: made[name] for name in known} == {name: plain[name] for name in known}
    assert made.keys() - known <= {"payments-kafka-oauth"}, "with docs/managed-kafka.md alone"


@pytest.mark.parametrize("path", WITH_STORE, ids=lambda path: path.stem)
def test_a_store_is_there_with_an_account_of_the_operators(path: Path) -> None:
    [store] = of_kind(path, "SecretStore")
    [account] = of_kind(path, "ServiceAccount")
    for each in of_kind(path, "ExternalSecret"):
        assert each["spec"]["secretStoreRef"]["name"] == store["metadata"]["name"]
        assert each["spec"]["target"]["deletionPolicy"] == "Retain"
    [provider] = store["spec"]["provider"].values()
    [login] = provider["auth"].values()
    assert login["serviceAccountRef"]["name"] == account["metadata"]["name"]
    # Not the pods' own: they have no rights at all.
    assert account["metadata"]["name"] != "payments-service"


@pytest.mark.parametrize("path", WITH_STORE, ids=lambda path: path.stem)
def test_a_misspelt_field_of_a_store_would_be_noticed(path: Path) -> None:
    [store] = of_kind(path, "SecretStore")
    wrong = copy.deepcopy(store)
    [provider] = wrong["spec"]["provider"].values()
    provider["auths"] = provider.pop("auth")
    assert problems(store) == []
    assert problems(wrong) != []
