"""Tests of `dataflow.web`."""
