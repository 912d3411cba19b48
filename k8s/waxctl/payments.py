"""The file that `waxctl df deploy` wants; the flow itself is in the image."""

from dataflow.flow import flow

__all__ = ["flow"]
