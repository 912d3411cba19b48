"""The names that `GATEWAY` may have; `dataflow.gateways.registry` has the gateway for each."""

SIMULATED = "simulated"
"""The one that approves payments and charges nobody: wherever it is in use, that is shown."""

NAMES = (SIMULATED,)
"""The values that `GATEWAY` accepts."""
