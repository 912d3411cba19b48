"""The observable side of the process: status, metrics, log."""
