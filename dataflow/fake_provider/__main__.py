"""Run the provider: `python -m dataflow.fake_provider STATE_FILE [PORT CONTROL_PORT]`."""

import sys

from dataflow.fake_provider.server import main

main(sys.argv[1:])
