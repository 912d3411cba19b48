"""The status page: what it shows, its chart, its style and its script."""
