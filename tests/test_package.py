"""The tests are one package, whose modules are found without any path but the repository."""

import ast
import re
import tomllib

from tests import ROOT


def test_every_folder_with_python_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert len(folders) > 20
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_pytest_and_make_set_no_path() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert not {"pythonpath", "python_files"} & options.keys()
    assert "PYTHONPATH" not in (ROOT / "Makefile").read_text()


def test_a_program_is_run_by_its_full_name() -> None:
    modules = re.findall(r"\$\(RUN\) -m ([\w.]+)", (ROOT / "Makefile").read_text())
    ours = [name for name in modules if (ROOT / "tests" / name.split(".")[0]).exists()]
    assert ours == []
    assert {"tests.chaos", "tests.bench", "tests.soak", "tests.chaos.mutants"} <= set(modules)


def test_only_the_hooks_are_on_a_path() -> None:
    """Any other folder on a path would give its modules a second name."""
    values = {
        ast.unparse(value)
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "PYTHONPATH"
    }
    assert values == {"str(ROOT)", "f'{SITE}{os.pathsep}{ROOT}'"}
