"""The files with secrets and certificates that the environment names: they change in place."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from dataflow.config.client_properties import ClientProperties
from dataflow.config.variables import VARIABLES


def mounted_files(
    environ: Mapping[str, str], properties: ClientProperties | None
) -> dict[str, Path]:
    """Return the files, by the variable that names each; `variable:property` for those in a file.

    The directory of a Secret is swapped as a whole, by a symbolic link (`..data`): each file is
    looked up by its own path every time, so it is found through the link of that moment.
    """
    found: dict[str, Path] = {}
    for variable in VARIABLES:
        name = f"{variable.name}_FILE" if variable.secret else variable.name
        if (variable.secret or variable.rotates) and (text := environ.get(name, "").strip()):
            found[name] = Path(text)
    for name, path in properties.files() if properties else ():
        found[f"KAFKA_CLIENT_PROPERTIES_FILE:{name}"] = path
    return found


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the hash of each file's content; empty for one that cannot be read now."""
    return {name: _digest(path) for name, path in files.items()}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
