"""Tests of `dataflow.demo`."""
