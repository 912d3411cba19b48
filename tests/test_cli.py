"""One command: what it offers, how it explains itself, and how it exits."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace

import pytest

from dataflow import __version__, cli
from dataflow.cli import COMMANDS, main
from tests import ROOT

RUN_BY_BYTEWAX = "python -m bytewax.run dataflow.flow"


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the help of a command, or of all."""
    with pytest.raises(SystemExit) as ended:
        main([*argv, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_help_names_every_command_and_how_the_flow_is_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = printed(capsys)
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", out, re.MULTILINE)
    assert RUN_BY_BYTEWAX in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_examples_and_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, name)
    assert out.startswith(f"usage: payments {name} ")
    _, _, examples = out.partition("examples:\n")
    assert re.search(rf"^  (\w+=\S+ )?payments {name}\b", examples, re.MULTILINE)
    assert "exit code: 0 when" in examples


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_have_options_that_there_are(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, name)
    usage, _, examples = out.partition("examples:\n")
    assert set(re.findall(r"--[a-z-]+", examples)) <= set(re.findall(r"--[a-z-]+", usage))


def test_a_command_gets_the_rest_of_the_arguments_and_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[object] = []

    def command(argv: Sequence[str], environ: Mapping[str, str]) -> int:
        given.extend([list(argv), environ])
        return 7

    def load(module: str) -> SimpleNamespace:
        given.append(module)
        return SimpleNamespace(main=command)

    monkeypatch.setattr(cli, "import_module", load)
    assert main(["verify", "--json", "--help"]) == 7
    assert given == ["dataflow.verify.command", ["--json", "--help"], os.environ]


@pytest.mark.parametrize("argv", [[], ["fix"], ["--json"], ["Demo"]])
def test_anything_else_is_refused_with_the_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: payments " in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"payments {__version__}\n"


def test_another_python_is_named_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setattr(cli, "import_module", pytest.fail)
    with pytest.raises(SystemExit) as ended:
        main(["demo"])
    assert ended.value.code == 2
    assert "use Python 3.11 or 3.12" in capsys.readouterr().err


def test_a_command_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the image, which has no demo."""

    def load(_module: str) -> None:
        raise ModuleNotFoundError(name="dataflow.demo")

    monkeypatch.setattr(cli, "import_module", load)
    with pytest.raises(SystemExit) as ended:
        main(["demo"])
    assert ended.value.code == 2
    assert "payments demo: is not part of this installation" in capsys.readouterr().err


def test_a_dependency_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_module: str) -> None:
        raise ModuleNotFoundError(name="confluent_kafka")

    monkeypatch.setattr(cli, "import_module", load)
    with pytest.raises(ModuleNotFoundError):
        main(["demo"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    assert callable(import_module(COMMANDS[name].module).main)


def test_a_health_check_brings_neither_kafka_nor_the_engine_with_it() -> None:
    code = (
        "import sys; from dataflow.cli import main; main(['healthcheck']);"
        "print(*sorted({'bytewax', 'confluent_kafka', 'numpy', 'msgspec'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PORT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


def test_python_runs_the_package_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dataflow", "scale", "--rate", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "payments scale: error:" in done.stderr
