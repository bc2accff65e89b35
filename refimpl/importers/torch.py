"""Capture of a torch module, through torch.export; the one file here that imports torch."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import operator
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.fx import Node as FxNode
from torch.nn.utils import parametrize

from refimpl.graph import Constant, Graph, GraphError, Shape, Sparsity
from refimpl.importers import CaptureError
from refimpl.importers.aten import RULES, Call, Value
from refimpl.importers.build import Builder
from refimpl.schemes import Scheme

Masks = Mapping[str, tuple[Scheme, np.ndarray]]

_TORCH = str(Path(torch.__file__).parent)
_INSPECT = inspect.__file__
_ASSERTION = "aten._assert_tensor_metadata.default"
_MOST_LINES = 10
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def capture(module: nn.Module, example: tuple[Tensor, ...], *, masks: Masks | None = None) -> Graph:
    """The Graph of what the module computes at inference, for inputs shaped as the example.

    The module is not changed: a copy is put into evaluation mode, and its parametrisations are
    baked into its weights.  Parameters and buffers keep their names (`conv1.weight`); nodes are
    called after the module that they come from (`features_3`), or after module and operator.

    Args:
        module: of float32 parameters.
        example: the positional arguments of `forward`, float32; only their shapes matter.
        masks: of pruned weights, by the parameter's name: the scheme and the mask (bool, of the
            weight's shape, True = kept).  The weights must be masked already.

    Raises:
        CaptureError: something has no counterpart here; the message names the aten operator, the
            node and the place in the module, or the weight whose mask does not fit.
    """
    _check_example(example)
    baked = _baked_copy(module)
    program = _exported(baked, example)
    names = _first_names(baked)
    sparsity = _sparsity(masks or {}, names)
    return _Capture(program, names).graph(type(module).__name__, sparsity)


def _check_example(example: tuple[Tensor, ...]) -> None:
    if not isinstance(example, tuple):
        raise CaptureError(f"the example is a {type(example).__name__}, not a tuple of tensors")
    for position, value in enumerate(example):
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise CaptureError(f"argument {position} of the example is a {kind}, not a tensor")
        if value.dtype != torch.float32:
            raise CaptureError(f"argument {position} of the example is {value.dtype}, not float32")


def _baked_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with plain weights where there were parametrised ones."""
    try:
        baked = copy.deepcopy(module).eval()
    except Exception as error:
        raise CaptureError(f"{type(module).__name__} cannot be copied: {error}") from error
    for child in baked.modules():
        if parametrize.is_parametrized(child):
            _bake(child)
    return baked


def _bake(module: nn.Module) -> None:
    # torch gives each parametrised module a class of its own, which deepcopy shares and removal
    # edits: without a class of its own, baking the copy would break the original.
    kind = type(module)
    own = {key: v for key, v in vars(kind).items() if key not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind.__name__, kind.__bases__, own)  # type: ignore[assignment]
    for name in list(module.parametrizations):  # type: ignore[arg-type]
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _exported(module: nn.Module, example: tuple[Tensor, ...]) -> ExportedProgram:
    """The module as a functional graph of whole aten operators.

    An empty table of decompositions keeps convolutions, pools and activations whole, but makes
    in-place operators pure.
    """
    with warnings.catch_warnings(), _quiet(), torch.no_grad():
        # torch's own use of what it has deprecated; nothing the caller could change.
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return torch.export.export(module, example).run_decompositions({})
        except Exception as error:
            line = str(error).strip().partition("\n")[0]
            hint = ". Control flow must not depend on values" if "data-dependent" in line else ""
            raise CaptureError(
                f"torch.export cannot trace {_place_of_error(module, error)}: "
                f"{type(error).__name__}: {line}{hint}"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging and printing, beside the error it raises, what it had traced."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
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


class _Capture:
    """One walk over an exported program."""

    def __init__(self, program: ExportedProgram, names: Mapping[str, str]) -> None:
        """Args: the program, and the name to use for each name of a parameter or buffer."""
        self.program = program
        self.names = names
        self.tensors = {**program.state_dict, **program.constants}
        self.placeholders = dict(_constants(program))
        inputs = list(_inputs(program))
        self.builder = Builder(inputs, reserved={*self.placeholders.values(), *names})
        self.values = {name: name for name, _ in inputs}

    def graph(self, name: str, sparsity: Mapping[str, Sparsity]) -> Graph:
        """The Graph; see `capture`."""
        calls = [node for node in self.program.graph.nodes if node.op == "call_function"]
        _refuse_unknown(calls)
        for node in calls:
            self.visit(node)
        results = enumerate(self.program.graph_signature.output_specs)
        outputs = [self.output(position, spec) for position, spec in results]
        unused = sorted(set(sparsity) - set(self.builder.constants))
        if unused:
            raise CaptureError(f"a mask is given for {unused[0]!r}, which no operator uses")
        try:
            return self.builder.graph(name, outputs, sparsity)
        except GraphError as error:
            raise CaptureError(f"{name} was captured, but {error}") from error

    def visit(self, node: FxNode) -> None:
        """Add what one node computes."""
        if str(node.target) == _ASSERTION:
            return
        if node.target is operator.getitem:
            self.values[node.name] = self.first_result(node)
            return
        call = Call(
            self.builder, self.arguments(node), _result_shape(node), _path(node), _place(node)
        )
        value = RULES[str(node.target)](call)
        if self.builder.shapes[value] != call.result:
            call.refuse(
                f"torch makes {call.result} of it, the operator here {self.builder.shapes[value]}"
            )
        self.values[node.name] = value

    def first_result(self, node: FxNode) -> str:
        """Of operators with several results (batch norm's statistics, a pool's indices)."""
        source = node.all_input_nodes[0]
        if node.args[1] != 0:
            raise CaptureError(f"{_place(source)}: only its first result has a counterpart here")
        return self.values[source.name]

    def arguments(self, node: FxNode) -> dict[str, Any]:
        """All arguments of a call by name, the defaults filled in, tensors as Value."""
        schema = node.target._schema.arguments  # type: ignore[union-attr]
        given = {argument.name: value for argument, value in zip(schema, node.args, strict=False)}
        defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
        known = {**defaults, **given, **node.kwargs}
        known = {key: str(v) if isinstance(v, torch.dtype) else v for key, v in known.items()}
        return {key: self.argument(value) for key, value in known.items()}

    def argument(self, value: Any) -> Any:
        """An argument with its tensors as Value, in lists too."""
        if isinstance(value, (list, tuple)):
            return [self.argument(item) for item in value]
        return self.value(value) if isinstance(value, FxNode) else value

    def value(self, node: FxNode) -> Value:
        """What a node computed, or the parameter or buffer that it stands for."""
        if node.name not in self.values:
            self.values[node.name] = self.constant(node)
        return Value(self.values[node.name])

    def constant(self, node: FxNode) -> str:
        name = self.placeholders[node.name]
        tensor = self.tensors[name]
        if tensor.dtype != torch.float32:
            raise CaptureError(f"{name!r} is {tensor.dtype}; only float32 can be captured")
        return self.builder.constant(self.names.get(name, name), tensor.detach().cpu().numpy())

    def output(self, position: int, spec: Any) -> str:
        """The value of one output; nested ones come flattened, in torch's order."""
        if spec.kind != OutputKind.USER_OUTPUT:
            kind = spec.kind.name.lower().replace("_", " ")
            raise CaptureError(f"the module changes {spec.target!r} as it runs ({kind})")
        if not isinstance(spec.arg, TensorArgument):
            raise CaptureError(f"output {position} is {spec.arg.value!r}, not a tensor")
        node = next(n for n in self.program.graph.nodes if n.name == spec.arg.name)
        return self.value(node).name


def _constants(program: ExportedProgram) -> Iterator[tuple[str, str]]:
    """(placeholder, name in the module) of parameters, buffers and constants."""
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT:
            yield spec.arg.name, str(spec.target)


def _refuse_unknown(calls: list[FxNode]) -> None:
    """Name everything that cannot be captured at once, not one thing per attempt."""
    unknown = [
        node
        for node in calls
        if node.target is not operator.getitem and str(node.target) not in (*RULES, _ASSERTION)
    ]
    if unknown:
        lines = [f"{_place(node)}: there is no operator for it here" for node in unknown]
        more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
        raise CaptureError("\n".join([*lines[:_MOST_LINES], *more]))


def _inputs(program: ExportedProgram) -> Iterator[tuple[str, Shape]]:
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            yield node.name, _result_shape(node)


def _result_shape(node: FxNode) -> Shape:
    """The shape of a node's (first) result, which must be a float32 tensor of fixed shape."""
    result = node.meta.get("val")
    first = result[0] if isinstance(result, (tuple, list)) else result
    if not isinstance(first, Tensor):
        raise CaptureError(f"{_place(node)}: its result is a {type(first).__name__}, not a tensor")
    if first.dtype != torch.float32:
        raise CaptureError(f"{_place(node)}: its result is {first.dtype}, not float32")
    if not all(type(size) is int for size in first.shape):
        raise CaptureError(f"{_place(node)}: its shape {tuple(first.shape)} is not fixed")
    return tuple(first.shape)


def _path(node: FxNode) -> str:
    """The dotted path for names: the module of torch.nn, or its user's module and the operator."""
    path, kind = _module(node)
    name = str(node.target).split(".")[1].strip("_")
    # torch may compute a view only where it is read, and then it counts as the reader's.
    own = name != "view" or kind.endswith("latten")
    if kind.startswith("torch.nn.modules.") and path and own:
        return path
    return f"{path}.{name}" if path else name


def _place(node: FxNode) -> str:
    """Operator, node, path of the module and line of the user's code, for messages."""
    path, kind = _module(node)
    place = path or f"the module's own forward ({kind.rpartition('.')[2]})"
    frames = [f for f in _FRAME.findall(node.meta.get("stack_trace") or "") if _TORCH not in f[0]]
    line = f" ({Path(frames[-1][0]).name}:{frames[-1][1]})" if frames else ""
    return f"cannot capture {node.target} (node {node.name}) in {place}{line}"


def _module(node: FxNode) -> tuple[str, str]:
    """Path and qualified class of the innermost module that a node comes from."""
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    path, kind = list(stack.values())[-1]
    return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
