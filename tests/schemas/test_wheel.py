"""A wheel of the product ships its command, and the schema files: other programs load them."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests import ROOT, published


def test_a_wheel_has_the_schema_files_and_the_command(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    for name in ("dataflow", "schemas"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    # The backend that pyproject.toml names, called as pip does it.
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist()}
    schemas = ROOT / "schemas"
    files = (*published.FILES.iterdir(), *published.AVRO_FILES.iterdir())
    for file in (*files, schemas / "asyncapi.yaml"):
        assert shipped[str(file.relative_to(ROOT))] == file.read_bytes()
    [entry_points] = [name for name in shipped if name.endswith("/entry_points.txt")]
    assert b"payments = dataflow.cli:main" in shipped[entry_points]
