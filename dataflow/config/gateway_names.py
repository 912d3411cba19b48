"""The names that `GATEWAY` may have; `dataflow.gateways.registry` has the gateway for each."""

import re

SIMULATED = "simulated"
"""The one that approves payments and charges nobody: wherever it is in use, that is shown."""

HTTP = "http"
STRIPE = "stripe"

NAMES = (SIMULATED, HTTP, STRIPE)
"""The names of our own gateways. `GATEWAY` also accepts `package.module:Class`."""

_FOREIGN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def is_class_path(name: str) -> bool:
    """Return whether a name has the form `package.module:Class`."""
    return _FOREIGN.fullmatch(name) is not None
