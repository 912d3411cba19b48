"""`make pictures`: what the documents show of the status page and of the dashboard."""
