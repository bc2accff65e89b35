"""Capture: from a framework's model to a Graph.  Each importer alone imports its framework."""


class CaptureError(ValueError):
    """A model that cannot be captured; the message names the operator and its place in it."""
