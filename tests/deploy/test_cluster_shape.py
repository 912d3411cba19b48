"""The processes of the cluster overlay, run here: its host file, pod names, lanes and workers.

Each "pod" sees its own `/etc/hosts`, in which the names of the headless Service are loopback
addresses of their own: so they bind and dial exactly what the overlay says.
"""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from invariants import check
from kafkatest import Cluster
from manifests import SERVICE, environment, one, overlay
from product import Flow, Topics, mixed_requests, send
from test_manifests import needs_tools

COUNT = 600
PARTITIONS = 6
_NAMED = "mount --bind \"$0\" /etc/hosts && exec \"$@\""

pytestmark = [
    needs_tools,
    pytest.mark.skipif(
        shutil.which("unshare") is None and os.environ.get("CI") != "true", reason="needs unshare"
    ),
]


@contextmanager
def pods(kafka: Cluster, topics: Topics, directory: Path, count: int) -> Iterator[list[Flow]]:
    """The StatefulSet with so many replicas, each with a volume of its own, all ready."""
    values = environment(overlay())
    hosts = directory / f"hosts-{count}.txt"
    names = [name.partition(":") for name in _host_file().split()]
    _, _, port = names[0]
    addresses = [names[0][0].replace(f"{SERVICE}-0.", f"{SERVICE}-{n}.") for n in range(count)]
    assert [name for name, _, _ in names] == addresses[: len(names)]
    hosts.write_text("".join(f"{name}:{port}\n" for name in addresses))
    network = f"127.{random.randrange(1, 255)}.{random.randrange(256)}"
    etc_hosts = directory / f"etc-hosts-{count}"
    etc_hosts.write_text(
        "127.0.0.1 localhost\n"
        + "".join(f"{network}.{n + 1} {name}\n" for n, name in enumerate(addresses))
    )
    prefix = ["unshare", "--mount"]
    if os.geteuid() != 0:
        prefix += ["--user", "--map-root-user"]
    prefix += ["sh", "-c", _NAMED, str(etc_hosts)]
    with ExitStack() as running:
        flows = []
        for n in range(count):
            pod = directory / f"{SERVICE}-{n}"
            pod.mkdir(exist_ok=True)
            environ = {
                name: values[name]
                for name in ("LANES", "BYTEWAX_WORKERS_PER_PROCESS", "BYTEWAX_STATEFULSET_NAME")
            }
            environ |= {
                "BYTEWAX_POD_NAME": f"{SERVICE}-{n}",
                "BYTEWAX_HOSTFILE_PATH": str(hosts),
            }
            flow = Flow(kafka, topics, pod, environ=environ, prefix=prefix)
            flows.append(running.enter_context(flow))
        for flow in flows:
            flow.wait_until_ready()
        yield flows


def _host_file() -> str:
    [found] = [o for o in overlay() if o["metadata"]["name"].startswith(f"{SERVICE}-hosts-")]
    return str(found["data"]["hosts.txt"])


def stop(flows: list[Flow]) -> None:
    """As `kubectl scale --replicas=0`: a signal to one is enough for all, more do no harm."""
    assert flows[-1].terminate() == 0
    for flow in flows:
        assert flow.wait_for_exit() == 0


def test_it_runs_as_many_processes_and_can_be_rescaled(kafka: Cluster, tmp_path: Path) -> None:
    """Up, and down to one; each time after a clean stop, and with no volume moved."""
    topics = Topics.fresh(kafka, PARTITIONS)
    [replicas] = [one(overlay(), "StatefulSet")["spec"]["replicas"]]
    assert replicas == 2
    total = 0
    for count in (replicas, 3, 1):
        # The same requests each time: what comes later is a repeat that must be recognised.
        total += send(kafka, topics, mixed_requests(COUNT, seed=1), PARTITIONS)
        with pods(kafka, topics, tmp_path, count) as flows:
            flows[0].wait(
                lambda: sum(_lag(flow) for flow in flows) == 0, 60, "done with everything"
            )
            stop(flows)
    findings = check(kafka, topics)
    assert findings.despite_restarts == []
    assert findings.counts["records"] == total
    assert [_stored(tmp_path, n) for n in range(3)] == [["part-0.sqlite3"], [], []]


def _lag(flow: Flow) -> int:
    """What is left to do of its partitions; more than none while that is not known."""
    partitions = flow.health().get("partitions", {}).values()
    lags = [partition["lag"] for partition in partitions]
    return 1 if not lags or None in lags else sum(lags)


def _stored(directory: Path, pod: int) -> list[str]:
    """What is kept on a pod's volume, beside locks and the engine's drawing of the flow."""
    return sorted(
        path.name
        for path in (directory / f"{SERVICE}-{pod}" / "recovery").iterdir()
        if path.suffix == ".sqlite3"
    )
