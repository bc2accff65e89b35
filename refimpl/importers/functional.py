"""In-place calls made pure: what they write becomes a new tensor, which later calls read instead.

torch.export leaves in-place calls in the programs that it saves.  Writing to a tensor changes all
that share its elements, too; where such a view is read later, the program is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from refimpl.importers import CaptureError
from refimpl.importers.exported import Program, Ref, Step, refs

_MAY_BE_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten", "unflatten",
        "squeeze", "unsqueeze", "permute", "transpose", "swapaxes", "movedim", "t", "numpy_T", "mT",
        "slice", "narrow", "select", "split", "split_with_sizes", "chunk", "unbind", "expand",
        "expand_as", "diagonal", "detach", "alias", "contiguous", "to", "type_as", "dropout",
        "feature_dropout", "alpha_dropout",
    )
)  # fmt: skip
"""Operators whose result may share its elements with their first tensor."""


def functional(program: Program) -> Program:
    """The program without in-place calls.

    Raises:
        CaptureError: one writes to an input, a parameter or a buffer, or to a tensor of which
            another view is read later.
    """
    fixed = {x.name: f"its input {x.name!r}" for x in program.inputs}
    fixed |= {name: repr(known.name) for name, known in program.known.items()}
    aliases = _Aliases(fixed)
    steps = tuple(aliases.visit(step) for step in program.steps)
    outputs = tuple(aliases.read(name, "the model's outputs") for name in program.outputs)
    return replace(program, steps=steps, outputs=outputs)


def _is_in_place(target: str) -> bool:
    """aten.add_.Tensor is, aten.__and__.Tensor is not."""
    name = target.split(".")[1] if target.count(".") else ""
    return name.endswith("_") and not name.endswith("__")


@dataclass
class _Aliases:
    """Which names stand for the same tensor, and which tensors share elements.

    Attributes:
        fixed: names that must not be written to, and what to call them.
        tensor: the tensor that a name stands for; a name stands for its own unless it is here.
        elements: the tensor whose elements a tensor shares; its own unless it is here.
        latest: the name by which a tensor is to be read since it was last written to.
        stale: tensors whose elements were written to through another, and where.
        sharing: all tensors that share the elements of a tensor, itself first.
    """

    fixed: dict[str, str]
    tensor: dict[str, str] = field(default_factory=dict)
    elements: dict[str, str] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    sharing: dict[str, list[str]] = field(default_factory=dict)

    def visit(self, step: Step) -> Step:
        """The call as a pure one, reading what was last written."""
        arguments = {k: self.renamed(v, step.origin.place) for k, v in step.arguments.items()}
        read = refs(list(step.arguments.values()))
        if _is_in_place(step.target) and read:
            self.write(step, read[0].name)
            package, name, *overload = step.target.split(".")
            return replace(
                step, target=".".join([package, name[:-1], *overload]), arguments=arguments
            )
        if read and step.target.rpartition(".")[0] in _MAY_BE_VIEWS:
            for result in step.results:
                self.share(result.name, read[0].name)
        return replace(step, arguments=arguments)

    def renamed(self, argument: Any, place: str) -> Any:
        """An argument that reads what was last written."""
        if isinstance(argument, list):
            return [self.renamed(item, place) for item in argument]
        return Ref(self.read(argument.name, place)) if isinstance(argument, Ref) else argument

    def read(self, name: str, place: str) -> str:
        """The name by which a tensor is to be read."""
        tensor = self.tensor.get(name, name)
        if tensor in self.stale:
            raise CaptureError(
                f"{self.stale[tensor]}: it writes to elements that {place} reads through another "
                f"view. Save the program after run_decompositions({{}}), which makes it functional"
            )
        return self.latest.get(tensor, name)

    def share(self, name: str, source: str) -> None:
        """Note that a tensor may be a view of another."""
        elements = self._elements(source)
        self.elements[name] = elements
        self.sharing.setdefault(elements, [self.tensor.get(source, source)]).append(name)

    def write(self, step: Step, name: str) -> None:
        """Note that a call writes to a tensor, and that its result is the same tensor."""
        tensor, elements = self.tensor.get(name, name), self._elements(name)
        if elements in self.fixed:
            raise CaptureError(
                f"{step.origin.place}: the module changes {self.fixed[elements]} as it runs"
            )
        for other in {*self.sharing.get(elements, ()), elements} - {tensor}:
            self.stale[other] = step.origin.place
        for result in step.results:
            self.tensor[result.name] = tensor
            self.latest[tensor] = result.name

    def _elements(self, name: str) -> str:
        tensor = self.tensor.get(name, name)
        return self.elements.get(tensor, tensor)
