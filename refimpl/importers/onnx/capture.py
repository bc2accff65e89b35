"""The walk over a model."""

from __future__ import annotations

from collections import ChainMap
from pathlib import Path

import onnx

from refimpl.graph import Graph, GraphError
from refimpl.importers import CaptureError
from refimpl.importers.build import Builder
from refimpl.importers.onnx import attributes
from refimpl.importers.onnx.call import Budget, Call, Scope
from refimpl.importers.onnx.checking import Step, initialisers, opset_of, reads, steps
from refimpl.importers.onnx.folding import FOLDS, folded
from refimpl.importers.onnx.functions import inlined
from refimpl.importers.onnx.inputs import bind, fixed_sizes
from refimpl.importers.onnx.operands import Known, Operand, Value
from refimpl.importers.onnx.reading import Source, read
from refimpl.importers.onnx.table import RULES
from refimpl.importers.onnx.tensors import Tensors
from refimpl.importers.sizes import GivenShapes
from refimpl.importers.unrolled import refuse_unrolled


def capture(model: str | Path | onnx.ModelProto, *, shapes: GivenShapes | None = None) -> Graph:
    """The Graph of what an ONNX model of float32 computes at inference.

    Constants keep their names; values are called as in the model, with what is between the nodes
    that one of ONNX's operators becomes after the operator (`y.mul`).  What does not depend on an
    input is computed now.  Integer inputs, which embeddings read, become float32 ones.

    Args:
        model: a file, with its external tensors beside it; or a model in memory.
        shapes: of inputs of which the model leaves sizes open, by the name; of the only input, a
            shape alone.

    Raises:
        CaptureError: the file is damaged or lies, or something in it has no counterpart here; the
            message names operator, node and opset.
    """
    source = read(model)
    try:
        return _Capture(source, shapes).graph()
    except UnicodeDecodeError as error:
        raise CaptureError(f"{source.name} is damaged: it holds text that is not UTF-8") from error


KNOWN = {*RULES, *FOLDS, "If"}
"""The operators that a model may have."""


class _Capture:
    """One walk."""

    def __init__(self, source: Source, shapes: GivenShapes | None) -> None:
        self.name = source.name
        model = inlined(source.model)
        self.opset = opset_of(model)
        self.proto = model.graph
        self.steps = steps(self.proto, self.opset, KNOWN)
        budget = Budget(source.size)
        self.tensors = Tensors(source.folder, budget)
        constants = set(initialisers(self.proto))
        inputs = bind(self.proto, constants, shapes)
        self.scope = Scope(Builder([(n, s) for n, (s, _) in inputs.items()], constants), budget)
        self.scope.whole |= {name for name, (_, whole) in inputs.items() if whole}
        self.missing: dict[str, str] = {}
        self.values: ChainMap[str, Operand] = ChainMap(
            {name: self.scope.value(name) for name in inputs}
        )

    def graph(self) -> Graph:
        """The Graph; see `capture`."""
        for known in self.constants(self.proto, self.steps):
            self.scope.hold(known)
        for step in self.steps:
            self.visit(step)
        for value in self.proto.output:
            self.check_output(value)
            self.name_output(value.name)
        outputs = [self.scope.name(self.value(value.name)) for value in self.proto.output]
        self.drop_dead(outputs)
        try:
            graph = self.scope.builder.graph(self.name, outputs, {})
        except GraphError as error:
            raise CaptureError(f"{self.name} was captured, but {error}") from error
        refuse_unrolled(graph, "export it with its RNN, GRU or LSTM operators")
        return graph

    def constants(self, graph: onnx.GraphProto, used_by: list[Step]) -> list[Known]:
        """Those that are used; others may be of any type."""
        used = {name for step in used_by for name in reads(step.node)}
        used.update(value.name for value in graph.output)
        found = [
            Known(tensor.name, self.tensors.array(tensor, f"constant {tensor.name!r}"))
            for tensor in graph.initializer
            if tensor.name in used
        ]
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            if name in used:
                found.append(Known(name, self.tensors.dense(sparse, f"constant {name!r}")))
        self.values.update((known.name, known) for known in found)
        return found

    def visit(self, step: Step) -> None:
        """Add what one node computes."""
        call = self.call(step)
        first = len(self.scope.builder.nodes)
        op = step.node.op_type
        if op in FOLDS and not any(isinstance(operand, Value) for operand in call.inputs):
            found: Operand | tuple[Operand, ...] = folded(call, op)
        elif op in RULES:
            found = RULES[op](call)
        elif op == "If":
            found = self.branch(call)
        else:
            call.refuse("it is computed here only of constants, not as the network runs")
        unread = call.unread()
        call.require(unread is None, f"{unread} has no counterpart here")
        results = found if isinstance(found, tuple) else (found,)
        self.define(step, first, results)

    def branch(self, call: Call) -> tuple[Operand, ...]:
        """If, whose condition is known: the results of one of its graphs."""
        condition = call.known(0, "the condition")
        call.require(condition.size == 1 and condition.dtype == "?", "the condition is no bool")
        graphs = call.attribute("then_branch"), call.attribute("else_branch")
        graph = graphs[0 if condition.item() else 1]
        call.require(not graph.input and len(graph.output) == call.outputs, "its graph has inputs")
        inner = steps(graph, self.opset, KNOWN, outer=self.values)
        self.values = self.values.new_child()
        self.constants(graph, inner)
        for step in inner:
            self.visit(step)
        results = tuple(self.value(value.name) for value in graph.output)
        self.values = self.values.parents
        return results

    def call(self, step: Step) -> Call:
        node = step.node
        attributes.check_arity(node, step.schema, step.place)
        return Call(
            scope=self.scope,
            inputs=tuple(self.value(name) if name else None for name in node.input),
            attributes=attributes.values(node, step.schema, self.tensors, step.place),
            read=set(),
            outputs=len(node.output),
            opset=self.opset,
            path=next(filter(None, node.output)),
            place=step.place,
        )

    def value(self, name: str) -> Operand:
        """What has been defined by this name in the model."""
        if name in self.missing:
            raise CaptureError(self.missing[name])
        return self.values[name]

    def define(self, step: Step, first: int, results: tuple[Operand, ...]) -> None:
        """Give the node's results the names that they have in the model."""
        fresh = {name for node in self.scope.builder.nodes[first:] for name in node.outputs}
        for position, name in enumerate(step.node.output):
            if position >= len(results):
                self.missing[name] = f"{step.place}: its output {name!r} is not computed here"
                continue
            result = results[position]
            if isinstance(result, Value) and result.name in fresh:
                fresh.remove(result.name)
                result = self.scope.value(self.scope.rename(first, result.name, name))
            if name:
                self.values[name] = result

    def name_output(self, name: str) -> None:
        """Call an output as the model does, where an Identity or the like is all that names it."""
        operand = self.value(name)
        fixed = {value.name for value in (*self.proto.input, *self.proto.output)}
        if isinstance(operand, Value) and operand.name not in fixed:
            renamed = self.scope.value(self.scope.rename(0, operand.name, name))
            same = [key for key, other in self.values.items() if other == operand]
            self.values.update(dict.fromkeys(same, renamed))

    def check_output(self, value: onnx.ValueInfoProto) -> None:
        """Refuse an output of another type or shape than it is declared to have."""
        operand = self.value(value.name)
        is_float = operand.array.dtype == "f4" if isinstance(operand, Known) else not operand.whole
        if not is_float:
            raise CaptureError(f"output {value.name!r} is not float32")
        declared = fixed_sizes(value)
        sizes = declared or ()
        wrong = declared is not None and len(declared) != len(operand.shape)
        if wrong or any(
            isinstance(size, int) and size != got
            for size, got in zip(sizes, operand.shape, strict=False)
        ):
            raise CaptureError(
                f"output {value.name!r} is declared as {declared}, but is {operand.shape}"
            )

    def drop_dead(self, outputs: list[str]) -> None:
        """Leave out nodes that only results need which nothing reads, and their constants."""
        builder, wanted, live = self.scope.builder, set(outputs), []
        for node in reversed(builder.nodes):
            if wanted.intersection(node.outputs):
                wanted.update(node.inputs)
                live.append(node)
        builder.nodes = live[::-1]
        builder.constants = {n: c for n, c in builder.constants.items() if n in wanted}
