"""Commands for the service that this one replaces, and those of docs/migration.md, still work."""

import re

from tests import ROOT
from tests.deploy.manifests import SERVICE, applied, one

MIGRATION = (ROOT / "docs" / "migration.md").read_text()


def test_the_old_label_finds_the_pods() -> None:
    """`kubectl get pods -n payments -l app=payments-service`, and `logs` likewise."""
    stateful_set = one(applied(), "StatefulSet")
    assert stateful_set["metadata"]["namespace"] == "payments"
    assert stateful_set["spec"]["template"]["metadata"]["labels"]["app"] == SERVICE


def test_nothing_is_selected_by_the_old_label() -> None:
    """A selector cannot be changed; and while both services are there, the label is both's."""
    spec = one(applied(), "StatefulSet")["spec"]
    services = [found["spec"]["selector"] for found in applied() if found["kind"] == "Service"]
    policies = [f["spec"]["podSelector"] for f in applied() if f["kind"] == "NetworkPolicy"]
    monitor = one(applied(), "PodMonitor")["spec"]["selector"]
    budget = one(applied(), "PodDisruptionBudget")["spec"]["selector"]
    for selector in (spec["selector"], *services, *policies, monitor, budget):
        assert "app" not in selector.get("matchLabels", selector)


def test_the_old_port_forward_finds_the_metrics() -> None:
    """`kubectl port-forward -n payments svc/payments-service 9090:9090`."""
    service = one(applied(), "Service")
    assert service["metadata"]["namespace"] == "payments"
    assert 9090 in [port["port"] for port in service["spec"]["ports"]]


def test_the_commands_of_the_migration_name_what_there_is() -> None:
    stateful_set = one(applied(), "StatefulSet")
    name = stateful_set["metadata"]["name"]
    [claim] = stateful_set["spec"]["volumeClaimTemplates"]
    assert set(re.findall(r"statefulset/([\w-]+)", MIGRATION)) == {name}
    assert re.findall(r"delete pvc -n payments ([\w-]+)", MIGRATION) == [
        f"{claim['metadata']['name']}-{name}-0"
    ]
    assert set(re.findall(r"-l app=([\w-]+)", MIGRATION)) == {SERVICE}
    seconds = [int(found) for found in re.findall(r"--timeout=(\d+)s", MIGRATION)]
    assert min(seconds) > stateful_set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
