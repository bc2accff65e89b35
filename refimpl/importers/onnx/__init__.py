"""Capture of an ONNX model; the one package here that imports onnx."""

from refimpl.importers.onnx.capture import capture
from refimpl.importers.onnx.survey import survey

__all__ = ["capture", "survey"]
