"""What operations files are made with: rules for Prometheus, the dashboard, pictures of both."""
