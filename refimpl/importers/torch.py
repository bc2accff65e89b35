"""Capture of a torch module, through torch.export."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.utils import parametrize

from refimpl.graph import Constant, Graph, Sparsity
from refimpl.importers import CaptureError
from refimpl.importers.exported import Program
from refimpl.importers.functional import functional
from refimpl.importers.survey import Survey, survey_of
from refimpl.importers.torch_program import TorchFolder, program_of
from refimpl.importers.walk import graph_of, unknown
from refimpl.schemes import Scheme

Masks = Mapping[str, tuple[Scheme, np.ndarray]]

_TORCH = str(Path(torch.__file__).parent)
_INSPECT = inspect.__file__


def capture(module: nn.Module, example: tuple[Tensor, ...], *, masks: Masks | None = None) -> Graph:
    """The Graph of what the module computes at inference, for inputs shaped as the example.

    The module is not changed: a copy is put into evaluation mode, and its parametrisations are
    baked into its weights.  Parameters and buffers keep their names (`conv1.weight`); nodes are
    called after the module that they come from (`features_3`), or after module and operator.

    Args:
        module: of float32 parameters.
        example: the positional arguments of `forward`; only their shapes matter.  They are
            float32, or int64 where the module does nothing but look up embeddings with them: the
            Graph takes such indices as float32, too.
        masks: of pruned weights, by the parameter's name: the scheme and the mask (bool, of the
            weight's shape, True = kept).  The weights must be masked already.

    Raises:
        CaptureError: something has no counterpart here; the message names the aten operator, the
            node and the place in the module, or the weight whose mask does not fit.
    """
    program, names = _traced(module, example)
    return graph_of(program, TorchFolder(), _sparsity(masks or {}, names))


def survey(module: nn.Module, example: tuple[Tensor, ...]) -> Survey:
    """What the module holds, whether or not it can be captured.

    Raises:
        CaptureError: torch.export cannot trace it.
    """
    return survey_of(_traced(module, example)[0], TorchFolder())


def _traced(module: nn.Module, example: tuple[Tensor, ...]) -> tuple[Program, dict[str, str]]:
    """What the module calls, and for each name of a parameter the one that is used."""
    _check_example(example)
    baked = _baked_copy(module)
    names = _first_names(baked)
    with _quiet():
        return _functional(type(module).__name__, _exported(baked, example), names), names


def _check_example(example: tuple[Tensor, ...]) -> None:
    if not isinstance(example, tuple):
        raise CaptureError(f"the example is a {type(example).__name__}, not a tuple of tensors")
    for position, value in enumerate(example):
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise CaptureError(f"argument {position} of the example is a {kind}, not a tensor")
        if value.dtype not in (torch.float32, torch.int64, torch.int32):
            raise CaptureError(f"argument {position} of the example is {value.dtype}, not float32")


def _baked_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with plain weights where there were parametrised ones."""
    try:
        baked = copy.deepcopy(module, _shared(module)).eval()
    except Exception as error:
        raise CaptureError(f"{type(module).__name__} cannot be copied: {error}") from error
    for child in baked.modules():
        if parametrize.is_parametrized(child):
            _bake(child)
    return baked


def _shared(module: nn.Module) -> dict[int, Any]:
    """What a copy of the module may share with it: all tensors that baking leaves alone."""
    own = {
        id(tensor)
        for child in module.modules()
        if parametrize.is_parametrized(child)
        for tensor in (*child.parameters(), *child.buffers())
    }
    tensors = (*module.parameters(), *module.buffers())
    return {id(tensor): tensor for tensor in tensors if id(tensor) not in own}


def _bake(module: nn.Module) -> None:
    # torch gives each parametrised module a class of its own, which deepcopy shares and removal
    # edits: without a class of its own, baking the copy would break the original.
    kind = type(module)
    own = {key: v for key, v in vars(kind).items() if key not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind.__name__, kind.__bases__, own)  # type: ignore[assignment]
    for name in list(module.parametrizations):  # type: ignore[arg-type]
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _exported(module: nn.Module, example: tuple[Tensor, ...]) -> ExportedProgram:
    """The module as a graph of whole aten operators."""
    with torch.no_grad():
        try:
            return torch.export.export(module, example)
        except Exception as error:
            line = str(error).strip().partition("\n")[0]
            hint = ". Control flow must not depend on values" if "data-dependent" in line else ""
            raise CaptureError(
                f"torch.export cannot trace {_place_of_error(module, error)}: "
                f"{type(error).__name__}: {line}{hint}"
            ) from error


def _functional(name: str, exported: ExportedProgram, names: Mapping[str, str]) -> Program:
    """The program without in-place calls, and of operators that are known here if there are any.

    torch can do both, but takes longer for it than for the export, and few modules need it.  Only
    the operators that are not known are taken apart; if that leads to others that are not known
    either, the module's own are the ones to name.
    """
    try:
        program = functional(program_of(name, exported, names))
    except CaptureError:
        program = program_of(name, exported.run_decompositions({}), names)
    apart, rows = program, {}
    while missing := {step.target for step in unknown(apart, TorchFolder())}:
        more = {op: how for op, how in _composites(missing).items() if op not in rows}
        if not more:
            return program
        rows |= more
        apart = program_of(name, exported.run_decompositions(rows), names)
    return apart


def _composites(targets: Collection[str]) -> dict[Any, Any]:
    """How to take those operators apart that are nothing but calls of others, such as einsum."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return {
        operator: how
        for operator, how in torch.export.default_decompositions().items()
        if str(operator) in targets
        and torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key)
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging and printing, beside the error it raises, what it had traced."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            # torch's own use of what it has deprecated; nothing the caller could change.
            warnings.simplefilter("ignore", FutureWarning)
            # Recurrent layers list their weights once more, which are exported all the same.
            warnings.filterwarnings("ignore", "The tensor attributes .*_flat_weights")
            yield
    finally:
        logging.disable(before)


def _place_of_error(module: nn.Module, error: Exception) -> str:
    """The innermost submodule that was running, and the line of the user's code."""
    names = {id(child): name for name, child in module.named_modules()}
    path, line = "", ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        path = names.get(id(frame.f_locals.get("self")), path)
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _INSPECT, "<")) and file != __file__:
            line = f" ({Path(file).name}:{number})"
    return (path or f"the module's own forward ({type(module).__name__})") + line


def _first_names(module: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer, with the first of its names: a tied one has several."""
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _sparsity(masks: Masks, names: Mapping[str, str]) -> dict[str, Sparsity]:
    for name in masks:
        if name not in names:
            raise CaptureError(
                f"a mask is given for {name!r}, which is no parameter of the module; "
                f"it has {', '.join(names)}"
            )
    if len({names[name] for name in masks}) < len(masks):
        raise CaptureError(f"two masks are given for one tied weight, among {', '.join(masks)}")
    return {
        names[name]: Sparsity(scheme, Constant(np.asarray(mask)))
        for name, (scheme, mask) in masks.items()
    }
