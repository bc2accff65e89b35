"""What the assembly of a kernel says: its instructions, its inner loop, counts of both.

Counts are static: of instructions as they stand in the text, not as they run.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

_LABEL = re.compile(r"(\.L\w+):")
_BRANCH = re.compile(r"(?:j\w+|b(?:\.\w+)?|t?bn?z|cbn?z)\s.*?(\.L\w+)$")
_LOCATION = re.compile(r"\t\.loc\t\d+ (\d+)")
_MULTIPLY = re.compile(r"vfn?m(?:add|sub)|fmla|fmls|fmadd|v?mul[sp]s\b")
_STACK = re.compile(r"\(%rsp|\[sp\b")
_MOVES = ("mov", "vmov", "vextract")


class AssemblyError(ValueError):
    """Assembly without what was looked for; the message says what."""


@dataclass(frozen=True)
class Line:
    """A label (ends in a colon) or an instruction; `ir` is its line of IR, 0 if unknown."""

    text: str
    ir: int = 0

    @property
    def is_label(self) -> bool:
        """True for a label."""
        return self.text.endswith(":")


@dataclass(frozen=True)
class Counts:
    """Instructions of a piece of code, and how many of them do what.

    multiply_adds: fused, or the multiplications where the target has no fused instruction;
    loads, stores: instructions that read or write memory (a pair counts once); stack: those of
    both that touch the stack, which in an inner loop are spills.
    """

    instructions: int
    multiply_adds: int
    loads: int
    stores: int
    stack: int


def function_lines(assembly: str, symbol: str) -> list[Line]:
    """The labels and instructions of a function, without directives.

    Raises AssemblyError if the text has no such function.
    """
    lines, inside, ir = [], False, 0
    for text in assembly.splitlines():
        if text == f"{symbol}:":
            inside = True
        elif text.startswith(".Lfunc_end"):
            inside = False
        if not inside:
            continue
        if location := _LOCATION.match(text):
            ir = int(location[1])
        elif text.startswith(".LBB") or text == f"{symbol}:":
            lines.append(Line(text))
        elif text.startswith("\t") and not text.startswith("\t."):
            lines.append(Line(text.strip(), ir))
    if not lines:
        raise AssemblyError(f"the assembly has no function {symbol}")
    return lines


def linked(lines: list[Line], located: list[Line]) -> list[Line]:
    """`lines` with the IR lines that the same code has where it was made with debug information.

    That only moves saves of registers at the entry; what has no counterpart stays unlinked.
    """
    texts = [line.text for line in lines], [line.text for line in located]
    result = list(lines)
    for a, b, size in difflib.SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks():
        result[a : a + size] = located[b : b + size]
    return result


def inner_loop(lines: list[Line]) -> range:
    """Which lines are the innermost loop that multiplies: from its label to its branch back.

    Raises AssemblyError if no loop multiplies.
    """
    labels = {line.text[:-1]: i for i, line in enumerate(lines) if line.is_label}
    loops = []
    for i, line in enumerate(lines):
        branch = _BRANCH.match(line.text)
        begin = labels.get(branch[1], i + 1) if branch else i + 1
        if begin <= i and count(lines[begin : i + 1]).multiply_adds:
            loops.append(range(begin, i + 1))
    if not loops:
        raise AssemblyError(f"no loop of {lines[0].text[:-1]} multiplies")
    return min(loops, key=len)


def count(lines: list[Line]) -> Counts:
    """Counts over some lines."""
    code = [line.text for line in lines if not line.is_label]
    access = [_access(text) for text in code]
    return Counts(
        instructions=len(code),
        multiply_adds=sum(bool(_MULTIPLY.match(text)) for text in code),
        loads=sum(reads for reads, _ in access),
        stores=sum(writes for _, writes in access),
        stack=sum(any(a) and bool(_STACK.search(t)) for t, a in zip(code, access, strict=True)),
    )


def _access(text: str) -> tuple[bool, bool]:
    """Whether an instruction reads, and whether it writes memory."""
    name, _, operands = text.partition("\t")
    if "[" in operands:  # aarch64: loads and stores are instructions of their own
        return name.startswith("ld"), name.startswith("st")
    if "(" not in operands or name.startswith(("lea", "prefetch", "nop")):
        return False, False
    if not operands.endswith(")") or name.startswith(("cmp", "test")):
        return True, False
    moved = name.startswith(_MOVES)
    return not moved, True
