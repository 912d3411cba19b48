"""The image: built by its own instructions, and run as a hardened container would run it.

Not proven here, for want of a container engine: the base image itself, overlay file systems, and a
container runtime's seccomp filter.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import ROOT
from tests.deploy import image
from tests.deploy.manifests import K8S, read
from tests.deploy.manifests import container as container_of
from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, send
from tests.support.invariants import check
from tests.support.kafka import Cluster
from tests.support.kafka.ports import free

COUNT = 300
pytestmark = pytest.mark.skipif(
    os.environ.get("CI") != "true" and image.missing() is not None, reason=str(image.missing())
)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, image.Stage]]:
    directory = tmp_path_factory.mktemp("image")
    yield image.build(directory)
    shutil.rmtree(directory)


@contextmanager
def container(
    stage: image.Stage, kafka: Cluster, topics: Topics, directory: Path, *options: str
) -> Iterator[tuple[Flow, int]]:
    """Yield the image's process, and its id as seen from outside."""
    volume = directory / "volume"
    volume.mkdir(exist_ok=True)
    options = ("--bind", str(volume), "/var/lib/payments", *options)
    command = [*stage.entrypoint, *stage.command]
    prefix = stage.sandbox(*options)
    with Flow(kafka, topics, directory, prefix=prefix, command=command) as flow:
        flow.wait_until_ready()
        found = subprocess.run(
            ["pgrep", "--parent", str(flow.process.pid)], check=True, capture_output=True, text=True
        )
        yield flow, int(found.stdout)


def of(pid: int, field: str) -> list[str]:
    """Return a line of `/proc/<pid>/status`."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = re.findall(rf"^{field}:\s*(.*)$", status, re.MULTILINE)
    return str(line).split()


def test_it_serves_payments_as_a_hardened_container(
    stages: dict[str, image.Stage], kafka: Cluster, tmp_path: Path
) -> None:
    """UID 1001, PID 1, no capabilities, nothing to write to but the volume; not even `/tmp`."""
    stage, topics = stages["service"], Topics.fresh(kafka)
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    with container(stage, kafka, topics, tmp_path) as (flow, pid):
        flow.wait_until_decided(COUNT)
        assert of(pid, "NSpid")[-1] == "1"
        assert of(pid, "CapEff") == of(pid, "CapBnd") == ["0" * 16]
        assert of(pid, "NoNewPrivs") == ["1"]
        assert Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1:4] == [
            "-m",
            "bytewax.run",
            "dataflow.flow",
        ]
        up = "payments_engine_metrics_up 1.0"
        # Both give up an answer that takes too long.
        flow.wait(lambda: up in flow.metrics(), LIMIT_S, "asking the engine")
        flow.wait(lambda: _health(stage, flow) == 0, LIMIT_S, "healthy")
        os.kill(pid, signal.SIGTERM)
        assert flow.wait_for_exit() == 0
        assert _health(stage, flow) == 1, "nobody answers any more"
    assert check(kafka, topics).problems == []
    with container(stage, kafka, topics, tmp_path) as (flow, pid):
        assert flow.health()["remembered_ids"] > 0, "the volume has kept them"
        os.kill(pid, signal.SIGINT)
        assert flow.wait_for_exit() == 0


def _health(stage: image.Stage, flow: Flow) -> int:
    """Return the exit code of the image's health check, in a sandbox of the same kind."""
    command = [*stage.sandbox(), *stage.healthcheck]
    return subprocess.run(command, env=flow.environ, check=False).returncode


def test_it_runs_under_the_helm_chart(
    stages: dict[str, image.Stage], kafka: Cluster, tmp_path: Path
) -> None:
    """With the chart's variables and host file, and the command that our patch gives it."""
    stage, topics = stages["waxctl"], Topics.fresh(kafka)
    [patch] = read(K8S / "waxctl" / "statefulset.yaml")
    stage.entrypoint, stage.command = [], container_of(patch)["command"]
    (tmp_path / "hostfile.txt").write_text(f"127.0.0.1:{free(1)[0]}\n")
    shim = K8S / "waxctl" / "payments.py"
    options = ["--tmpfs", "/tmp", "--ro-bind", str(shim), "/tmp/payments.py"]
    options += ["--ro-bind", str(tmp_path / "hostfile.txt"), "/tmp/hostfile.txt"]
    of_chart = {
        "BYTEWAX_PYTHON_FILE_PATH": "/tmp/payments.py",
        "BYTEWAX_WORKDIR": "/tmp",
        "BYTEWAX_POD_NAME": "payments-0",
        "BYTEWAX_STATEFULSET_NAME": "payments",
        "BYTEWAX_HOSTFILE_PATH": "/tmp/hostfile.txt",
        "BYTEWAX_DATAFLOW_API_PORT": str(free(1)[0]),
        "BYTEWAX_DATAFLOW_API_CACHE_PATH": "/var/lib/payments",
    }
    options += [word for name in of_chart.items() for word in ("--setenv", *name)]
    with container(stage, kafka, topics, tmp_path, *options) as (flow, pid):
        assert Path(f"/proc/{pid}/cmdline").read_text().startswith("python\0-m\0bytewax.run\0")
        send(kafka, topics, mixed_requests(COUNT, seed=1))
        flow.wait_until_decided(COUNT)
        os.kill(pid, signal.SIGTERM)
        assert flow.wait_for_exit() == 0


def test_it_has_what_it_needs_and_no_more(stages: dict[str, image.Stage]) -> None:
    stage = stages["service"]
    app = stage.root / "opt/venv/app"
    files = {str(path.relative_to(app)) for path in app.rglob("*") if path.is_file()}
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("dataflow", "schemas")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "demo" not in path.parts
    }
    assert {file for file in files if "__pycache__" not in file} == {
        file for file in wanted if "__pycache__" not in file
    }
    installed = {path.name.partition("-")[0].lower() for path in stage.root.rglob("*.dist-info")}
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert installed == {name.replace("-", "_").lower() for name in locked}
    assert (stage.root / "licenses/LICENSE").read_text().startswith("MIT License")


def test_it_can_use_a_schema_registry(stages: dict[str, image.Stage]) -> None:
    """Its packages are an extra, and imported only where an address is set."""
    command = ["python", "-c", "import dataflow.schema_registry.start"]
    done = subprocess.run(
        [*stages["service"].sandbox(), *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_its_files_are_compiled_and_only_root_can_change_them(
    stages: dict[str, image.Stage],
) -> None:
    stage = stages["service"]
    for path in (stage.root / "opt").rglob("*"):
        if not path.is_symlink():
            mode = path.stat().st_mode
            assert not mode & stat.S_IWOTH, path
            assert mode & stat.S_IROTH, path
    [compiled] = (stage.root / "opt/venv/app/dataflow/__pycache__").glob("flow.*.pyc")
    # Never compared with the source again: https://peps.python.org/pep-0552/
    assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00"


def test_it_has_its_name_and_version(stages: dict[str, image.Stage]) -> None:
    stage = stages["service"]
    assert stage.user == "1001:1001"
    assert stage.ports == [3000, 9090, 9999]
    assert stage.volumes == [stage.environ["BYTEWAX_RECOVERY_DIRECTORY"]]
    assert stage.stop_signal == "SIGTERM"
    assert stage.labels["org.opencontainers.image.licenses"] == "MIT"


@pytest.mark.parametrize(
    ("path", "kept_out"),
    [
        (".env", True),
        (".git/config", True),
        ("recovery/part-0.sqlite3", True),
        ("tests/conftest.py", True),
        ("dataflow/demo/command.py", True),
        ("dataflow/__pycache__/flow.pyc", True),
        ("dataflow/flow.py", False),
        ("requirements.txt", False),
        ("requirements-msk.txt", False),
        ("requirements-otel.txt", False),
        ("requirements-dev.txt", True),
        ("k8s/waxctl/entrypoint.sh", False),
    ],
)
def test_the_view_of_the_engine(path: str, kept_out: bool) -> None:  # noqa: FBT001
    assert image.ignored(path) is kept_out


def test_every_base_is_pinned_by_digest() -> None:
    found = image.instructions((ROOT / "Dockerfile").read_text())
    stages = {rest.partition(" AS ")[2] for keyword, rest in found if keyword == "FROM"}
    for keyword, rest in found:
        base = rest.partition(" AS ")[0]
        if keyword == "FROM" and base not in stages:
            assert base == "${PYTHON}"
        if keyword == "ARG" and rest.startswith("PYTHON="):
            assert re.fullmatch(r"PYTHON=python:[\d.]+-slim-\w+@sha256:[0-9a-f]{64}", rest)
