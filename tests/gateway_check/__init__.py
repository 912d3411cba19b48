"""Tests of `dataflow.gateway_check`."""
