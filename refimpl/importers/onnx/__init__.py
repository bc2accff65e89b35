"""Capture of an ONNX model; the one package here that imports onnx."""

from refimpl.importers.onnx.capture import capture

__all__ = ["capture"]
