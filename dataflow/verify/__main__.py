"""`python -m dataflow.verify`."""

import os
import sys

from dataflow.verify.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
