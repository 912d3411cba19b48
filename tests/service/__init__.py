"""Tests of `dataflow.service`."""
