"""What torch exported, in words of ours, and torch as the folder of what depends on no input."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.fx import Node as FxNode

from refimpl.importers import CaptureError
from refimpl.importers.exported import Known, Origin, Program, Ref, Result, Step, user_line

_TORCH = str(Path(torch.__file__).parent)


def program_of(name: str, program: ExportedProgram, names: Mapping[str, str]) -> Program:
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


class TorchFolder:
    """Computes with torch itself what depends on no input."""

    def knows(self, target: str) -> bool:
        """Every operator but those that draw at random."""
        found = _operator(target)
        return found is not None and torch.Tag.nondeterministic_seeded not in found.tags

    def fold(self, step: Step, arguments: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The results of a call, its tensors given as arrays."""
        found = _operator(step.target)
        assert found is not None, "only known operators are folded"
        given = {name: _to_torch(value, found, name) for name, value in arguments.items()}
        with torch.no_grad():
            results = found(**given)
        several = results if isinstance(results, (tuple, list)) else (results,)
        return [result.detach().cpu().numpy() for result in several if result is not None]


def _operator(target: str) -> Any:
    """torch's operator of this name, or None."""
    found: Any = torch.ops
    for part in target.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def _to_torch(value: Any, of: Any, name: str) -> Any:
    """An argument of an operator as torch takes it."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    if isinstance(value, list):
        return [_to_torch(item, of, name) for item in value]
    kinds = {argument.name: str(argument.type) for argument in of._schema.arguments}
    # A dtype is an int in the schema and a name here.
    if isinstance(value, str) and hasattr(torch, value) and "str" not in kinds[name]:
        return getattr(torch, value)
    return value
