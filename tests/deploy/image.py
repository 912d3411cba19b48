"""The image without a container engine: the Dockerfile's own instructions, run by bubblewrap.

Each stage becomes a directory. The base image is stood in for by this machine: its `/usr`, and the
interpreter that runs the tests at `/usr/local`, where the official Python images have theirs. What
differs from a real build is therefore the base image, and nothing that is in the Dockerfile.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tests import ROOT

_HOST = ("/etc", "/usr")
_LINKS = ("bin", "lib", "lib64", "sbin")
_MOUNT_POINTS = ("dev", "etc", "proc", "root", "tmp", "usr", sys.base_prefix.lstrip("/"))


def missing() -> str | None:
    """Return why an image cannot be built here, or None."""
    if shutil.which("bwrap") is None:
        return "needs bubblewrap (Debian: apt-get install bubblewrap)"
    if sys.base_prefix == "/usr":
        return "needs a Python that is not the system's, to stand in for the base image"
    command = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"bubblewrap cannot run here: {tried.stderr}" if tried.returncode else None


@dataclass
class Stage:
    """One stage of the Dockerfile: its files, and what its instructions have set."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    stop_signal: str = ""

    def sandbox(self, *options: str) -> list[str]:
        """Return what to put before a command to run it in this image, as a container would.

        The root file system read-only, as the image's user, without capabilities or the way to
        any, as PID 1 of its own. Variables of the caller are passed on; the image's come on top.

        Args:
            *options: More of bubblewrap's, such as `--bind SOURCE TARGET` for a volume.
        """
        uid, _, gid = self.user.partition(":")
        return [
            *_sandbox(self.root, write=False),
            *("--uid", uid, "--gid", gid, "--cap-drop", "ALL"),
            *("--unshare-pid", "--as-pid-1", "--unshare-ipc", "--die-with-parent"),
            *(word for name, value in self.environ.items() for word in ("--setenv", name, value)),
            *options,
            *("--chdir", self.workdir, "--"),
        ]


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile: keyword and the rest, continuation lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(keyword, rest.strip()) for keyword, _, rest in found]


def build(directory: Path, context: Path = ROOT) -> dict[str, Stage]:
    """Build all stages, below the directory. Fails at the first instruction that does."""
    stages: dict[str, Stage] = {}
    arguments: dict[str, str] = {}
    stage = Stage(directory)
    for keyword, rest in instructions((context / "Dockerfile").read_text()):
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = stages[name] = _begin(directory / name, stages.get(base))
        elif keyword == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            _carry_out(keyword, _expand(rest, arguments), stage, stages, context)
    return stages


def ignored(path: str, context: Path = ROOT) -> bool:
    """Return whether `.dockerignore` keeps a context's path from the engine: the last rule wins."""
    verdict = False
    for line in (context / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        hit = any(
            PurePosixPath(part).match(pattern.removeprefix("**/"))
            if pattern.startswith("**/")
            else pattern in {"*", part}
            for part in _ancestors(path)
        )
        if hit:
            verdict = not rule.startswith("!")
    return verdict


def _ancestors(path: str) -> list[str]:
    return [path, *map(str, list(PurePosixPath(path).parents)[:-1])]


def _begin(root: Path, base: Stage | None) -> Stage:
    if base is None:
        for name in _MOUNT_POINTS:
            (root / name).mkdir(parents=True)
        for name in _LINKS:
            (root / name).symlink_to(f"usr/{name}")
        return Stage(root)
    shutil.copytree(base.root, root, symlinks=True, copy_function=os.link)
    values = {name: value for name, value in vars(base).items() if name != "root"}
    return Stage(root, **json.loads(json.dumps(values)))


def _carry_out(
    keyword: str, rest: str, stage: Stage, stages: Mapping[str, Stage], context: Path
) -> None:
    if keyword == "RUN":
        _run(rest, stage)
    elif keyword == "COPY":
        _copy(rest, stage, stages, context)
    elif keyword == "WORKDIR":
        stage.workdir = rest
        _inside(stage.root, rest).mkdir(parents=True, exist_ok=True)
    elif keyword == "ENTRYPOINT":
        stage.entrypoint, stage.command = json.loads(rest), []
    else:
        name, read = _SETTINGS[keyword]
        before, value = getattr(stage, name), read(rest)
        setattr(stage, name, before | value if isinstance(before, dict) else value)


def _pairs(rest: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(rest))


_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "ENV": ("environ", _pairs),
    "LABEL": ("labels", _pairs),
    "USER": ("user", str),
    "EXPOSE": ("ports", lambda rest: [int(port) for port in rest.split()]),
    "VOLUME": ("volumes", json.loads),
    "STOPSIGNAL": ("stop_signal", str),
    "CMD": ("command", json.loads),
    "HEALTHCHECK": ("healthcheck", lambda rest: json.loads(rest.partition(" CMD ")[2])),
}
"""The effect of each instruction, and how to read it; any other instruction is not supported."""


def _run(rest: str, stage: Stage) -> None:
    options = []
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        options.append(option)
    mounts: list[str] = []
    for option in options:
        [target] = re.findall(r"--mount=type=cache,target=(\S+)", option)
        cache = Path.home() / ".cache" / "pip"
        cache.mkdir(parents=True, exist_ok=True)
        mounts += ["--bind", str(cache), target]
    # The engine gives a build step the network, and the settings of package indexes.
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    settings |= {"HOME": "/root", "PATH": "/usr/local/bin:/usr/bin:/bin"} | stage.environ
    command = [
        *_sandbox(stage.root),
        *("--uid", "0", "--gid", "0"),
        *mounts,
        "--clearenv",
        *(word for name, value in settings.items() for word in ("--setenv", name, value)),
        *("--chdir", stage.workdir, "--", *json.loads(rest)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"RUN {rest}\n{done.stdout}{done.stderr}"


def _copy(rest: str, stage: Stage, stages: Mapping[str, Stage], context: Path) -> None:
    *words, destination = rest.split()
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    sources = [word for word in words if not word.startswith("--")]
    target = _inside(stage.root, str(PurePosixPath(stage.workdir) / destination))
    for source in sources:
        if "from" in options:
            origin = _inside(stages[options["from"]].root, source)
        else:
            origin = context / source
            assert not ignored(source, context), f"COPY {source}: in .dockerignore"
        if origin.is_dir():
            shutil.copytree(
                origin,
                target,
                symlinks=True,
                dirs_exist_ok=True,
                ignore=_ignoring(options, context),
                copy_function=os.link if "from" in options else shutil.copy2,
            )
        else:
            final = target / origin.name if destination.endswith("/") else target
            final.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, final)
    if "chmod" in options:
        target.chmod(int(options["chmod"], 8))


def _ignoring(options: Mapping[str, str], context: Path) -> Any:
    def names(directory: str, found: list[str]) -> list[str]:
        if "from" in options:
            return []
        place = Path(directory).relative_to(context)
        return [name for name in found if ignored(str(place / name), context)]

    return names


def _expand(text: str, arguments: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], text)


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _sandbox(root: Path, *, write: bool = True) -> list[str]:
    """Return the beginning of a command line that runs in a tree, writable for a build step."""
    command = ["bwrap", "--unshare-user", "--bind" if write else "--ro-bind", str(root), "/"]
    for path in _HOST:
        command += ["--ro-bind", path, path]
    command += ["--proc", "/proc", "--dev", "/dev"]
    if write:
        command += ["--tmpfs", "/tmp", "--tmpfs", "/root"]
    # At its own place as well: that is where it looks for its shared library.
    for path in ("/usr/local", sys.base_prefix):
        command += ["--ro-bind", sys.base_prefix, path]
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    if write and Path(wheels).is_dir():
        command += ["--ro-bind", wheels, wheels]
    return command
