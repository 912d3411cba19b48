"""The sources of operations files: rules for Prometheus, the dashboard, pictures of both."""
