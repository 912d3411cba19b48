"""Without the packages of the extra, a setting or a command that needs them is refused by name."""

import sys

import pytest

from dataflow import schema_registry
from dataflow.errors import SettingsError
from dataflow.schema_registry import command, extra


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dataflow.schema_registry.")]:
        if name not in {extra.__name__, command.__name__}:
            monkeypatch.delitem(sys.modules, name)
            monkeypatch.delattr(schema_registry, name.rpartition(".")[2], raising=False)
    for name in ("fastavro", "confluent_kafka.schema_registry"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_packages")
def test_a_module_that_lacks_its_packages_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match=r"install\s+payments-dataflow\[registry\]"):
        extra.load("start")


@pytest.mark.usefixtures("without_packages")
def test_the_command_names_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["check"], {}) == 2
    assert "payments-dataflow[registry]" in capsys.readouterr().err
