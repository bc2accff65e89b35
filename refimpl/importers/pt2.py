"""Capture of a .pt2 file that torch.export.save has written; torch is not needed, nor imported.

The file is data: its JSON is read entry by entry, each held to its type, and mapped to Graph nodes
by the same rules as a module is (`refimpl.importers.aten`).  Nothing in it is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from refimpl.graph import Graph
from refimpl.importers import CaptureError
from refimpl.importers.archive import DTYPES, Archive
from refimpl.importers.bound_sizes import BoundSizes
from refimpl.importers.exported import Known, Origin, Program, Ref, Result, Step, user_line
from refimpl.importers.fields import expect, get, only
from refimpl.importers.folding import NumpyFolder
from refimpl.importers.functional import functional
from refimpl.importers.sizes import GivenShapes, by_name
from refimpl.importers.survey import Survey, survey_of
from refimpl.importers.symbols import OpenSizeError
from refimpl.importers.walk import graph_of

_KNOWN = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}


def capture(path: str | Path, *, shapes: GivenShapes | None = None) -> Graph:
    """The Graph of a saved torch.export program.

    Args:
        path: of the .pt2 file.
        shapes: of inputs, by name, where the export left sizes open; all sizes of each.  Of the
            only input, a shape alone.

    Raises:
        CaptureError: it is no such file, it is malformed, an open size is not bound, or something
            in it has no counterpart here; the message names the file or the place in the model.
    """
    with closing(Archive(Path(path))) as archive:
        return graph_of(_program(archive, shapes), NumpyFolder(), {})


def survey(path: str | Path, *, shapes: GivenShapes | None = None) -> Survey:
    """What a file holds, whether or not it can be captured.

    Raises:
        CaptureError: as `capture`, but for what has no counterpart here.
    """
    with closing(Archive(Path(path))) as archive:
        return survey_of(_program(archive, shapes), NumpyFolder())


def _program(archive: Archive, shapes: GivenShapes | None) -> Program:
    """The program in the file, every size of it fixed, without in-place calls."""
    model = archive.model()
    module = get(model, "graph_module", dict, f"{archive.path}")
    ranges = get(model, "range_constraints", dict, f"{archive.path}")
    reader = _Reader(module, archive.tensors(), f"{archive.path}")
    return functional(reader.program(archive.path.stem, shapes, ranges))


class _Reader:
    """The parsed JSON of a program."""

    def __init__(self, model: Any, tensors: Mapping[str, Known], what: str) -> None:
        self.graph = get(model, "graph", dict, what)
        self.signature = get(model, "signature", dict, what)
        self.metas = get(self.graph, "tensor_values", dict, what)
        self.sizes = BoundSizes(self.metas, what)
        self.tensors = tensors
        self.what = what

    def program(self, name: str, shapes: GivenShapes | None, ranges: dict[str, Any]) -> Program:
        """The program, every size of it fixed."""
        known, inputs = self.placeholders()
        self.sizes.bind(inputs, by_name(shapes, inputs, self.what))
        self.sizes.require_ranges(ranges)
        steps = tuple(self.steps())
        outputs = tuple(self.outputs())
        kinds = [step.origin.outermost for step in steps if step.origin.outermost]
        called = kinds[0].rpartition(".")[2] if kinds else name
        results = tuple(self.result(name) for name in inputs)
        return Program(called, results, known, steps, outputs, _tied(known.values()))

    def placeholders(self) -> tuple[dict[str, Known], list[str]]:
        """Parameters and constants by their names in the program, and the user's inputs."""
        known, inputs = {}, []
        for spec in get(self.signature, "input_specs", list, self.what):
            kind, entry = only(spec, f"an input of {self.what}")
            if kind in _KNOWN:
                name = get(get(entry, "arg", dict, kind), "name", str, kind)
                of = get(entry, _KNOWN[kind], str, kind)
                if of not in self.tensors:
                    raise CaptureError(f"{self.what} has no tensor for the {kind} {of!r}")
                known[name] = self.tensors[of]
            elif kind == "user_input":
                inputs += self.user_input(entry)
            elif kind != "constant_input":
                raise CaptureError(f"{self.what}: an input is a {kind}, not a tensor")
        return known, inputs

    def user_input(self, entry: Any) -> list[str]:
        """The name of an input that is a tensor; one that was fixed by the export is none."""
        kind, value = only(get(entry, "arg", dict, "an input"), "an input")
        if kind == "as_tensor":
            return [get(value, "name", str, "an input")]
        if kind in ("as_none", "as_int", "as_float", "as_bool", "as_string"):
            return []
        raise CaptureError(f"{self.what}: an input is a {kind.removeprefix('as_')}, not a tensor")

    def result(self, name: str) -> Result:
        """A tensor that is defined."""
        meta = get(self.metas, name, dict, f"{self.what}: its tensors")
        dtype = DTYPES.get(get(meta, "dtype", int, name), "of an unknown dtype")
        try:
            return Result(name, self.sizes.shape(name), dtype)
        except OpenSizeError as error:
            raise CaptureError(
                f"{self.what}: the shape of {name!r} depends on values, through {error.symbol}"
            ) from None

    def steps(self) -> Iterator[Step]:
        """The calls that make tensors; those that only compute sizes are left out."""
        for node in get(self.graph, "nodes", list, self.what):
            target = get(node, "target", str, f"a node of {self.what}")
            target = target.removeprefix("torch.ops.")
            names = list(self.defined(node, target))
            if not names:
                continue
            origin = _origin(target, names[0], node)
            what = f"{self.what}: an argument of {target} (node {names[0]})"
            arguments = {
                get(given, "name", str, what): self.argument(get(given, "arg", dict, what), what)
                for given in get(node, "inputs", list, what)
            }
            results = tuple(self.result(name) for name in names)
            yield Step(target, arguments, results, origin)

    def defined(self, node: Any, what: str) -> Iterator[str]:
        """The names of the tensors that a node makes."""
        for output in get(node, "outputs", list, what):
            kind, value = only(output, what)
            if kind == "as_tensor":
                yield get(value, "name", str, what)
            elif kind == "as_tensors":
                for tensor in expect(value, list, what):
                    yield get(tensor, "name", str, what)

    def argument(self, union: Any, place: str) -> Any:
        """An argument, tensors as Ref, sizes as ints."""
        kind, value = only(union, place)
        if kind == "as_none":
            return None
        if kind == "as_scalar_type":
            return DTYPES.get(expect(value, int, place), "of an unknown dtype")
        if kind in ("as_memory_format", "as_layout", "as_device"):
            return kind
        for plain, one in _PLAIN.items():
            if kind == plain:
                return one(self, value, place)
            if kind == f"{plain}s":
                return [one(self, item, place) for item in expect(value, list, place)]
        raise CaptureError(f"{place}: an argument is a {kind.removeprefix('as_')}")

    def tensor(self, value: Any, place: str) -> Ref:
        """A tensor that is read."""
        return Ref(get(value, "name", str, place))

    def optional(self, value: Any, place: str) -> Ref | None:
        """A tensor that may be missing."""
        kind, found = only(value, place)
        return self.tensor(found, place) if kind == "as_tensor" else None

    def symbolic(self, value: Any, place: str) -> int:
        """A size that is computed from others, or fixed."""
        kind, found = only(value, place)
        if kind == "as_int":
            return expect(found, int, place)
        sizes = get(self.graph, "sym_int_values", dict, self.what)
        try:
            return self.sizes.size(get(sizes, expect(found, str, place), dict, place), place)
        except OpenSizeError as error:
            raise CaptureError(f"{place}: a size depends on values, {error.symbol}") from None

    def number(self, value: Any, place: str) -> float:
        """A float; JSON has no word for those that are not finite."""
        if value in ("Infinity", "-Infinity", "NaN"):
            return float(value)
        return float(value) if type(value) is int else expect(value, float, place)

    def flag(self, value: Any, place: str) -> bool:
        """True or False."""
        return expect(value, bool, place)

    def text(self, value: Any, place: str) -> str:
        """A string."""
        return expect(value, str, place)

    def whole(self, value: Any, place: str) -> int:
        """An int."""
        return expect(value, int, place)

    def outputs(self) -> Iterator[str]:
        """The names of the outputs."""
        for position, spec in enumerate(get(self.signature, "output_specs", list, self.what)):
            kind, entry = only(spec, f"output {position}")
            if kind != "user_output":
                raise CaptureError(f"the module changes a tensor as it runs ({kind})")
            found, value = only(get(entry, "arg", dict, f"output {position}"), f"output {position}")
            if found != "as_tensor":
                raise CaptureError(
                    f"output {position} is a {found.removeprefix('as_')}, not a tensor"
                )
            yield get(value, "name", str, f"output {position}")


_PLAIN = {
    "as_tensor": _Reader.tensor,
    "as_optional_tensor": _Reader.optional,
    "as_sym_int": _Reader.symbolic,
    "as_int": _Reader.whole,
    "as_float": _Reader.number,
    "as_bool": _Reader.flag,
    "as_string": _Reader.text,
}
"""How each kind of argument is read, alone or in lists."""


def _origin(target: str, node: str, record: Any) -> Origin:
    """Where in the model a node comes from, as far as the file says."""
    metadata = record.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    stack = [entry.split(",", 2) for entry in str(found.get("nn_module_stack", "")).split(";")]
    modules = [entry[1:] for entry in stack if len(entry) == 3]
    # Nodes that torch itself inserted have a stack without paths.
    path, kind = modules[-1] if modules and not modules[-1][0].startswith("_empty") else ("", "")
    line = user_line(str(found.get("stack_trace", "")), "site-packages/torch/")
    outermost = modules[0][1] if modules and not modules[0][0] else ""
    return Origin(target, node, path, kind, line, outermost)


def _tied(tensors: Iterator[Known] | Any) -> dict[str, str]:
    """For every name of a tensor, the first of those that share its array."""
    first: dict[int, str] = {}
    return {known.name: first.setdefault(id(known.array), known.name) for known in tensors}
