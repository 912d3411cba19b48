"""The guarantees that a provider behind the gateway `http` gives, played against the provider."""
