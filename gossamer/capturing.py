"""From a model, as its framework has it, to a Graph."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gossamer.errors import ModelError
from refimpl.graph import Graph
from refimpl.importers.sizes import GivenShapes
from refimpl.recognise import annotate, recognise_network

if TYPE_CHECKING:
    from refimpl.importers.survey import Survey

FILES = (".pt2", ".onnx")
"""The files that can be captured, by how their names end."""

_PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


def capture(
    model: Any,
    example: Sequence[Any] | None = None,
    *,
    shapes: GivenShapes | None = None,
    recognise: bool = True,
) -> Graph:
    """What a model computes at inference.

    Weights that are sparse already need no annotation.  Where a weight of a convolution, a linear
    or a recurrent layer has zeros and no mask, its scheme is recognised from them
    (`refimpl.recognise`), and taken up if it saves at least a tenth of the weight's
    multiplications.

    Args:
        model: a torch.nn.Module with float32 parameters, which is not changed and whose masks of
            `prune` come along; or the path of a .pt2 or .onnx file, which are read as data.
        example: of a module, the positional arguments of its forward: float32 tensors, or int64
            ones that index embeddings; only their shapes matter.
        shapes: of a file, the shapes of inputs of which it leaves sizes open, by the input's name;
            of its only input, a shape alone.
        recognise: False leaves weights without masks dense.

    Raises:
        ModelError: it is no such thing, an argument is for the other kind of model, or torch or
            onnx is not installed.
        CaptureError: it does something that cannot be captured, by name and place.
    """
    if isinstance(model, (str, Path)):
        graph = _reader(Path(model), example).capture(model, shapes=shapes)
    else:
        arguments = _arguments(model, example, shapes)
        from prune.masking import masks
        from refimpl.importers.torch import capture as capture_module

        graph = capture_module(model, arguments, masks=masks(model))
    return annotate(graph, recognise_network(graph)) if recognise else graph


def survey(
    model: Any, example: Sequence[Any] | None = None, *, shapes: GivenShapes | None = None
) -> Survey:
    """What a model holds, whether or not it can be captured; arguments and errors as `capture`."""
    if isinstance(model, (str, Path)):
        return _reader(Path(model), example).survey(model, shapes=shapes)
    arguments = _arguments(model, example, shapes)
    from refimpl.importers.torch import survey as survey_module

    return survey_module(model, arguments)


def _reader(path: Path, example: Any) -> ModuleType:
    """The importer for a file."""
    suffix = path.suffix.lower()
    if suffix in _PICKLED:
        raise ModelError(
            f"{path}: {suffix} files are pickled, and not read; build the torch.nn.Module in "
            "Python, load them into it and capture that, or save it with torch.export.save"
        )
    if suffix == ".safetensors":
        raise ModelError(
            f"{path} is a plan or bare weights, not a model; gossamer.load reads plans"
        )
    if suffix not in FILES:
        raise ModelError(f"{path} cannot be captured; {' and '.join(FILES)} files can")
    if example is not None:
        raise ModelError(
            f"{path} says what its inputs are: leave out the example; shapes= gives sizes that it "
            "leaves open"
        )
    if suffix == ".onnx" and importlib.util.find_spec("onnx") is None:
        raise ModelError(f"reading {path} needs onnx: pip install 'gossamer[onnx]'")
    return importlib.import_module(f"refimpl.importers{suffix}")


def _arguments(model: Any, example: Any, shapes: GivenShapes | None) -> tuple[Any, ...]:
    """The example of a module, as a tuple."""
    kind = type(model).__name__
    if importlib.util.find_spec("torch") is None:
        raise ModelError(f"capturing a {kind} needs torch: pip install 'gossamer[torch]'")
    import torch

    if not isinstance(model, torch.nn.Module):
        raise ModelError(
            f"a {kind} cannot be captured; a torch.nn.Module and the path of a "
            f"{' or '.join(FILES)} file can"
        )
    if shapes is not None:
        raise ModelError(
            f"shapes are for files; the inputs of {kind} are shaped as the example's tensors"
        )
    if example is None:
        raise ModelError(
            f"capturing {kind} needs example inputs: capture(model, (x,)); only their shapes matter"
        )
    return tuple(example) if isinstance(example, (tuple, list)) else (example,)
