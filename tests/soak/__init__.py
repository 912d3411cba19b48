"""A long run at a steady rate: nothing that a process has may grow."""
