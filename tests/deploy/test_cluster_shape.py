"""The processes of the cluster overlay, run here: its host file, pod names, lanes and workers.

Each "pod" sees its own `/etc/hosts`, in which the names of the headless Service are loopback
addresses of their own: so they bind and dial exactly what is in the overlay.
"""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.deploy.manifests import SERVICE, Object, applied, environment, one, overlay
from tests.deploy.test_manifests import needs_tools
from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, send
from tests.support.invariants import check
from tests.support.kafka import Cluster

COUNT = 600
PARTITIONS = 6

pytestmark = [
    needs_tools,
    pytest.mark.skipif(
        shutil.which("unshare") is None and os.environ.get("CI") != "true", reason="needs unshare"
    ),
]


@contextmanager
def pods(
    kafka: Cluster, topics: Topics, directory: Path, objects: list[Object]
) -> Iterator[list[Flow]]:
    """Yield the pods of the StatefulSet, each with a volume of its own, all ready."""
    values = environment(objects)
    wanted = {"LANES", "BYTEWAX_WORKERS_PER_PROCESS", "BYTEWAX_STATEFULSET_NAME"} & values.keys()
    environ = {name: values[name] for name in wanted}
    prefix: list[str] = []
    if "BYTEWAX_HOSTFILE_PATH" in values:
        hosts = directory / "hosts.txt"
        hosts.write_text(_host_file(objects))
        environ["BYTEWAX_HOSTFILE_PATH"] = str(hosts)
        prefix = _named(hosts.read_text().split(), directory / "etc-hosts")
    with ExitStack() as running:
        flows = []
        for n in range(one(objects, "StatefulSet")["spec"]["replicas"]):
            pod = directory / f"{SERVICE}-{n}"
            pod.mkdir(exist_ok=True)
            name = {"BYTEWAX_POD_NAME": pod.name}
            flow = Flow(kafka, topics, pod, environ=environ | name, prefix=prefix)
            flows.append(running.enter_context(flow))
        for flow in flows:
            flow.wait_until_ready()
        yield flows


def _named(hosts: list[str], file: Path) -> list[str]:
    """Return what to put before a command for which these names are addresses of this machine."""
    network = f"127.{random.randrange(1, 255)}.{random.randrange(256)}"
    lines = [f"{network}.{n} {host.partition(':')[0]}" for n, host in enumerate(hosts, 1)]
    file.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
    alone = ["unshare", "--mount"]
    if os.geteuid() != 0:
        alone += ["--user", "--map-root-user"]
    return [*alone, "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(file)]


def _host_file(objects: list[Object]) -> str:
    [found] = [o for o in objects if o["metadata"]["name"].startswith(f"{SERVICE}-hosts-")]
    return str(found["data"]["hosts.txt"])


def stop(flows: list[Flow]) -> None:
    """Stop as `kubectl scale --replicas=0` does: with a signal to each."""
    for flow in flows:
        flow.process.terminate()
    for flow in flows:
        assert flow.wait_for_exit() == 0


def kill(flows: list[Flow]) -> None:
    """Kill it, as a node that is lost."""
    for flow in flows:
        flow.kill()


def test_it_runs_as_many_processes_and_can_be_rescaled(kafka: Cluster, tmp_path: Path) -> None:
    """From one process to those of the overlay, and back even from a crash; no volume is moved."""
    topics = Topics.fresh(kafka, PARTITIONS)
    total, processes = 0, []
    for objects, end in ((applied(), stop), (overlay(), kill), (applied(), stop)):
        # The same requests each time: what comes later is a repeat that must be recognised.
        total += send(kafka, topics, mixed_requests(COUNT, seed=1), PARTITIONS)
        with pods(kafka, topics, tmp_path, objects) as flows:
            processes.append(len(flows))
            if end is stop:
                flows[0].wait(lambda: sum(map(_lag, flows)) == 0, LIMIT_S, "done with everything")
            else:
                flows[0].wait(lambda: sum(f.decided() for f in flows) > COUNT, LIMIT_S, "at work")
            end(flows)
    assert processes == [1, 2, 1]
    findings = check(kafka, topics)
    assert findings.problems == []
    assert findings.counts["records"] == total
    assert [_stored(tmp_path, n) for n in range(2)] == [["part-0.sqlite3"], []]


def _lag(flow: Flow) -> int:
    """Return what is left to do of its partitions; more than none while that is unknown."""
    partitions = flow.health().get("partitions", {}).values()
    lags = [partition["lag"] for partition in partitions]
    return 1 if not lags or None in lags else sum(lags)


def _stored(directory: Path, pod: int) -> list[str]:
    """Return what is on a pod's volume, beside locks and the engine's drawing of the flow."""
    return sorted(
        path.name
        for path in (directory / f"{SERVICE}-{pod}" / "recovery").iterdir()
        if path.suffix == ".sqlite3"
    )
