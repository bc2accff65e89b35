"""An exported torch program, however it was read: a flat list of calls of aten operators.

torch modules and .pt2 files both become this; `refimpl.importers.walk` makes a Graph of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refimpl.ops import Shape

_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)')


@dataclass(frozen=True)
class Ref:
    """A tensor argument: the program's name of the tensor."""

    name: str


@dataclass(frozen=True)
class Result:
    """A tensor that is defined: its name in the program, shape, and dtype without the "torch."."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class Known:
    """A parameter, buffer or constant.

    Attributes:
        name: in the module.
        dtype: torch's name of it, without the "torch."; in words where there is no array.
        array: its elements, or None where NumPy has no such dtype.
    """

    name: str
    dtype: str
    array: np.ndarray | None


@dataclass(frozen=True)
class Origin:
    """Where in the model a call comes from.

    Attributes:
        target: the operator with its overload, such as aten.conv2d.default.
        node: the call's name in the program.
        module: the dotted path of the innermost module; empty for the outermost.
        kind: the qualified class of that module.
        line: file and line of the user's code, such as net.py:12; empty where unknown.
        outermost: the qualified class of the outermost module; empty where unknown.
    """

    target: str
    node: str
    module: str = ""
    kind: str = ""
    line: str = ""
    outermost: str = ""

    @property
    def path(self) -> str:
        """For names: the module of torch.nn, or its user's module and the operator."""
        name = self._operator
        # torch may compute a view only where it is read, and then it counts as the reader's.
        own = name != "view" or self.kind.endswith("latten")
        if self.kind.startswith("torch.nn.modules.") and self.module and own:
            return self.module
        return f"{self.module}.{name}" if self.module else name

    @property
    def constant(self) -> str:
        """For the names of constants that are computed at capture: the module and operator."""
        return f"{self.module}.{self._operator}" if self.module else self._operator

    @property
    def _operator(self) -> str:
        return self.target.split(".")[1].strip("_")

    @property
    def place(self) -> str:
        """For messages: operator, node, module and line."""
        place = self.module or f"the module's own forward ({self.kind.rpartition('.')[2]})"
        line = f" ({self.line})" if self.line else ""
        return f"cannot capture {self.target} (node {self.node}) in {place}{line}"


@dataclass(frozen=True)
class Step:
    """One call of an operator.

    Attributes:
        target: the operator with its overload.
        arguments: by their names in aten's schema; those at their defaults may be missing.
            Tensors are Ref, in lists too; a dtype is its name without the "torch.".
        results: what it defines.
        origin: where it comes from.
    """

    target: str
    arguments: Mapping[str, Any]
    results: tuple[Result, ...]
    origin: Origin


@dataclass(frozen=True)
class Program:
    """A whole model.

    Attributes:
        name: of the model.
        inputs: what the user gives.
        known: parameters, buffers and constants by their names in the program.
        steps: in an order in which every tensor is defined before it is read.
        outputs: the names of the results, nested ones flattened in torch's order.
        same: for each name of a parameter or buffer the one to use: a tied one has several.
    """

    name: str
    inputs: tuple[Result, ...]
    known: Mapping[str, Known]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    same: Mapping[str, str] = field(default_factory=dict)


def user_line(trace: str, library: str) -> str:
    """File and line of the innermost frame of a stack trace that is not the library's own."""
    frames = [frame for frame in _FRAME.findall(trace) if library not in frame[0]]
    return f"{frames[-1][0].rpartition('/')[2]}:{frames[-1][1]}" if frames else ""


def refs(argument: Any) -> Sequence[Ref]:
    """All tensors of an argument, in lists and dictionaries too."""
    if isinstance(argument, Ref):
        return (argument,)
    if isinstance(argument, Mapping):
        argument = list(argument.values())
    if isinstance(argument, (list, tuple)):
        return [ref for item in argument for ref in refs(item)]
    return ()
