"""How much of ONNX can be captured: every test that the installed onnx has of an operator, run.

    python -m refimpl.importers.onnx.coverage           the report that docs/operators.md is
    python -m refimpl.importers.onnx.coverage --write   writes it there

A test of onnx's is a model of one operator (or of the operators that define it), inputs and the
outputs to expect.  Each is captured, evaluated and compared.  Where an operator wants constants
(shapes, scales, weights of recurrences), the test's inputs are made constants of the model.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import defs, numpy_helper

from refimpl.graph import evaluate
from refimpl.importers import CaptureError
from refimpl.importers.onnx.capture import capture
from refimpl.importers.onnx.folding import FOLDS
from refimpl.importers.onnx.table import RULES

PASSED = "passed"
PASSED_FIRST = "passed, its first result only"
# What to expect is written in few digits in some tests, which say how many by `rtol`.
_ABSOLUTE = 1e-6
_TYPES = {np.dtype(kind) for kind in ("f4", "i4", "i8", "?")}
_REPORT = Path(__file__).parents[3] / "docs" / "operators.md"


@dataclass(frozen=True)
class Outcome:
    """What became of one test.

    Attributes:
        name: of the test.
        op: the operator that it is of.
        reason: PASSED or PASSED_FIRST, or why it was refused.
    """

    name: str
    op: str
    reason: str

    @property
    def passed(self) -> bool:
        """Whether what was captured computes what ONNX says."""
        return self.reason in (PASSED, PASSED_FIRST)


def outcomes() -> list[Outcome]:
    """Every test of an operator, for those whose inputs and outputs are ours: float32, not empty.

    Raises:
        AssertionError: a model was captured, and computes something else than ONNX says.
    """
    return [_run(case, *data) for case in _cases() for data in _data(case)]


def _cases() -> Iterator[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        # Of NumPy, as onnx computes what to expect of infinities.
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    for case in cases:
        assert case.model is not None
        ops = {node.op_type for node in case.model.graph.node}
        if len(case.model.graph.node) == 1 and ops & RULES.keys():
            yield case


def _data(case: Any) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """The first of the test's data that are arrays of our types with something in them."""
    for inputs, outputs in case.data_sets[:1]:
        arrays = [*inputs, *outputs]
        if (
            all(isinstance(array, np.ndarray | np.generic) for array in arrays)
            and all(array.dtype in _TYPES for array in arrays)
            and all(array.dtype == np.float32 for array in outputs)
            and all(array.size for array in (*inputs[:1], *outputs))
        ):
            yield inputs, outputs


def _run(case: Any, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> Outcome:
    op = case.model.graph.node[0].op_type
    floats = [array.dtype == np.float32 for array in inputs]
    first = [position == 0 for position in range(len(inputs))]
    reasons: list[str] = []
    for variable, results in itertools.product((floats, first), sorted({len(outputs), 1})[::-1]):
        try:
            graph = capture(_changed(case.model, inputs, variable, results))
        except CaptureError as error:
            reasons.append(_without_place(str(error)))
            continue
        given = [array for array, is_input in zip(inputs, variable, strict=True) if is_input]
        found = evaluate(graph, *given, fast=True)
        for ours, expected in zip(found, outputs[:results], strict=True):
            np.testing.assert_allclose(ours, expected, case.rtol, _ABSOLUTE, err_msg=case.name)
        return Outcome(case.name, op, PASSED if results == len(outputs) else PASSED_FIRST)
    return Outcome(case.name, op, reasons[-1])


def _changed(
    model: onnx.ModelProto, inputs: Sequence[np.ndarray], variable: Sequence[bool], results: int
) -> onnx.ModelProto:
    """The model with some of its inputs as constants, and the first of its outputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    described = list(changed.graph.input)
    del changed.graph.input[:], changed.graph.output[results:]
    for value, array, is_input in zip(described, inputs, variable, strict=True):
        if is_input:
            changed.graph.input.append(value)
        else:
            tensor = numpy_helper.from_array(np.asarray(array), value.name)
            changed.graph.initializer.append(tensor)
    return changed


def _without_place(message: str) -> str:
    """A refusal without "cannot capture OP (node NAME, opset N): "."""
    return message.partition("): ")[2] or message


def report(found: Iterable[Outcome]) -> str:
    """docs/operators.md: counts, what is refused and why, and what has no counterpart."""
    found = list(found)
    passed = Counter(outcome.op for outcome in found if outcome.passed)
    partly = sum(outcome.reason == PASSED_FIRST for outcome in found)
    total = Counter(outcome.op for outcome in found)
    refused = [outcome for outcome in found if not outcome.passed]
    missing = sorted(_operators() - RULES.keys() - FOLDS.keys())
    lines = [
        "# ONNX operators",
        "",
        "Written by `python -m refimpl.importers.onnx.coverage --write`; a test holds it current.",
        "",
        f"Of the tests of single operators that come with onnx {onnx.__version__} (opset "
        f"{defs.onnx_opset_version()}), of float32 and not empty, {len(found)} are of the "
        f"{len(RULES)} operators that can be captured. {sum(passed.values())} pass, {partly} of "
        "them in their first result only (the others are a layer's statistics, or where a maximum "
        "was); the rest is refused, and none computes something else.",
        "",
        "| operator | pass | of |",
        "| --- | --- | --- |",
        *(f"| {op} | {passed[op]} | {total[op]} |" for op in sorted(RULES)),
        "",
        "## What is refused",
        "",
        "| test | reason |",
        "| --- | --- |",
        *(f"| {outcome.name} | {outcome.reason} |" for outcome in refused),
        "",
        "## Only of constants",
        "",
        "Computed at capture, where no input of the network is involved:",
        ", ".join(sorted(FOLDS.keys() - RULES.keys())) + ".",
        "",
        "## Refused by name",
        "",
        ", ".join(missing) + ".",
    ]
    return "\n".join(lines) + "\n"


def _operators() -> set[str]:
    """Every operator of ONNX's own domain that is not deprecated."""
    return {s.name for s in defs.get_all_schemas() if not s.domain and not s.deprecated}


def _main() -> None:
    parser = argparse.ArgumentParser(description="Run onnx's own tests of its operators.")
    parser.add_argument("--write", action="store_true", help="write docs/operators.md")
    write = parser.parse_args().write
    text = report(outcomes())
    if write:
        _REPORT.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    _main()
