"""A real schema registry for the tests: Apicurio, which has Confluent's API, in memory.

One serves all processes of a parallel run: its JVM takes as much memory as a broker, and longer to
start.
"""

from tests.support.registry.apicurio import Registry, RegistryError, prepare, shared

__all__ = ["Registry", "RegistryError", "prepare", "shared"]
