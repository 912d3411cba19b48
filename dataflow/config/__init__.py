"""The configuration: environment variables in, checked settings out."""
