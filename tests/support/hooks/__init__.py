"""The hooks of the tests in the flow: crashes at named points, mutations, other constants."""

from pathlib import Path

SITE = Path(__file__).with_name("site")
"""The folder of `sitecustomize`, first on the PYTHONPATH of a flow that is to have the hooks."""
