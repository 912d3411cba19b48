#!/bin/sh
# Started by Bytewax's Helm chart. `exec`: Python is to be the one that gets the signals.
exec python -m bytewax.run "$BYTEWAX_PYTHON_FILE_PATH"
