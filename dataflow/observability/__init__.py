"""What can be seen of the process: status, metrics, log."""
