"""The HTTP side of the process: probes, the status page, the metrics."""
