"""Tests of `dataflow.kafka`."""
