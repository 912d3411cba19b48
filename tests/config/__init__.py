"""Tests of `dataflow.config`."""
