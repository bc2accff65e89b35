"""Follow one layer from tensor to machine code: every form printed, run and compared."""

from gossamer.explain import terminal
from gossamer.explain.assembly import AssemblyError, Counts, Line
from gossamer.explain.explanation import (
    Change,
    ExplainError,
    Explanation,
    changes,
    compare,
    explain,
    find_layer,
)
from gossamer.explain.meaning import COMPILED, Verdict, first_wrong, verdicts
from gossamer.explain.outline import Outline, is_contraction, outline
from gossamer.explain.outline import as_data as outline_data
from gossamer.explain.page import page, write_page
from gossamer.explain.record import as_data, dump
from gossamer.explain.source import plans_for, saved_plan

__all__ = [
    "COMPILED",
    "AssemblyError",
    "Change",
    "Counts",
    "ExplainError",
    "Explanation",
    "Line",
    "Outline",
    "Verdict",
    "as_data",
    "changes",
    "compare",
    "dump",
    "explain",
    "find_layer",
    "first_wrong",
    "is_contraction",
    "outline",
    "outline_data",
    "page",
    "plans_for",
    "saved_plan",
    "terminal",
    "verdicts",
    "write_page",
]
