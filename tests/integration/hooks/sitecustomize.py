"""Loaded by the flow's interpreter in tests: kills it at a named point, or breaks it on purpose.

`CRASH_AT=<point>:<n>` kills the process with SIGKILL when it passes the point for the n-th time.
`BREAK=<name>` removes one guarantee, to prove that a test would notice.
"""

import os

if os.environ.get("CRASH_AT") or os.environ.get("BREAK"):
    import crash_hooks

    crash_hooks.install(os.environ.get("CRASH_AT", ""), os.environ.get("BREAK", ""))
