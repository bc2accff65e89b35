"""Capture of a torch module, through torch.export; needs torch."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import operator
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.fx import Node as FxNode
from torch.nn.utils import parametrize

from refimpl.graph import Constant, Graph, Sparsity
from refimpl.importers import CaptureError
from refimpl.importers.exported import Known, Origin, Program, Ref, Result, Step, user_line
from refimpl.importers.functional import functional
from refimpl.importers.survey import Survey, survey_of
from refimpl.importers.torch_folding import TorchFolder
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
    """What the module calls, and of every name of a parameter the one that is used."""
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

    torch can do both, but takes longer for it than for the export, and few modules need it: an
    empty table of decompositions makes in-place operators pure and takes apart what is made of
    others, but keeps convolutions, pools and activations whole.
    """
    with contextlib.suppress(CaptureError):
        program = functional(_program(name, exported, names))
        if not unknown(program, TorchFolder()):
            return program
    return _program(name, exported.run_decompositions({}), names)


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


def _program(name: str, program: ExportedProgram, names: Mapping[str, str]) -> Program:
    """What torch exported, in words of ours; `names` says which to use of a parameter's."""
    tensors = {**program.state_dict, **program.constants}
    constants = _constants(program)
    known = {placeholder: _known(of, tensors[of]) for placeholder, of in constants.items()}
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    places = _results_by_place(calls)
    steps = tuple(_step(node, places) for node in calls if node.target is not operator.getitem)
    specs = enumerate(program.graph_signature.output_specs)
    outputs = tuple(places.get(of, of) for of in (_output(i, spec) for i, spec in specs))
    return Program(name, tuple(_inputs(program)), known, steps, outputs, names)


def _constants(program: ExportedProgram) -> dict[str, str]:
    """The placeholders of parameters, buffers and constants, and their names in the module."""
    specs = program.graph_signature.input_specs
    return {s.arg.name: str(s.target) for s in specs if s.kind != InputKind.USER_INPUT}


def _inputs(program: ExportedProgram) -> Iterator[Result]:
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            yield _result(node.name, node.meta.get("val"), f"input {node.name!r}")


def _known(name: str, tensor: Tensor) -> Known:
    plain = tensor.detach().cpu()
    try:
        return Known(name, _dtype(tensor.dtype), plain.numpy())
    except TypeError:
        return Known(name, str(tensor.dtype), None)


def _results_by_place(calls: Sequence[FxNode]) -> dict[str, str]:
    """The name of the result that each getitem picks out of a call with several."""
    return {
        node.name: _name_of_result(node.all_input_nodes[0], node.args[1])
        for node in calls
        if node.target is operator.getitem
    }


def _name_of_result(node: FxNode, position: Any) -> str:
    return f"{node.name}.{position}"


def _step(node: FxNode, places: Mapping[str, str]) -> Step:
    found = node.meta.get("val")
    if isinstance(found, (tuple, list)):
        names = [(_name_of_result(node, position), value) for position, value in enumerate(found)]
    else:
        names = [(node.name, found)]
    origin = _origin(node)
    results = tuple(
        _result(name, value, origin.place) for name, value in names if value is not None
    )
    return Step(str(node.target), _arguments(node, places), results, origin)


def _result(name: str, value: Any, place: str) -> Result:
    if not isinstance(value, Tensor):
        raise CaptureError(f"{place}: its result is a {type(value).__name__}, not a tensor")
    if not all(type(size) is int for size in value.shape):
        raise CaptureError(f"{place}: its shape {tuple(value.shape)} is not fixed")
    return Result(name, tuple(value.shape), _dtype(value.dtype))


def _arguments(node: FxNode, places: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a call by name."""
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else []
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return {name: _argument(value, places) for name, value in given.items()}


def _argument(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, FxNode):
        return Ref(places.get(value.name, value.name))
    if isinstance(value, torch.dtype):
        return _dtype(value)
    if isinstance(value, (list, tuple)):
        return [_argument(item, places) for item in value]
    return value


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _output(position: int, spec: Any) -> str:
    """The program's name of an output; nested ones come flattened, in torch's order."""
    if spec.kind != OutputKind.USER_OUTPUT:
        kind = spec.kind.name.lower().replace("_", " ")
        raise CaptureError(f"the module changes {spec.target!r} as it runs ({kind})")
    if not isinstance(spec.arg, TensorArgument):
        raise CaptureError(f"output {position} is {spec.arg.value!r}, not a tensor")
    return spec.arg.name


def _origin(node: FxNode) -> Origin:
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    path, kind = list(stack.values())[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    line = user_line(node.meta.get("stack_trace") or "", _TORCH)
    return Origin(str(node.target), node.name, path, kind, line)
