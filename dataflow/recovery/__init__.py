"""The recovery store of the engine."""
