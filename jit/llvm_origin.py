"""Which line of a Program every line of LLVM IR, and of assembly, came from; for people.

`emit_annotated` prints the IR of `emit_ir` with the Program's line behind every instruction, as a
comment.  `with_locations` turns the same text into a module with debug information, so that the
`.loc` directives of its assembly name lines of that text: assembly -> IR -> Program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from jit.llvm import _Function
from jit.program import Block, For, If, Program, Statement
from jit.program_text import parse, show_block
from jit.target import LlvmTarget

_ORIGIN = re.compile(r"  ; (\d+)$")
_DEBUG = """
!llvm.dbg.cu = !{!0}
!llvm.module.flags = !{!2, !3}
!0 = distinct !DICompileUnit(language: DW_LANG_C, file: !1, isOptimized: true, \
runtimeVersion: 0, emissionKind: LineTablesOnly)
!1 = !DIFile(filename: "program", directory: "")
!2 = !{i32 7, !"Dwarf Version", i32 4}
!3 = !{i32 2, !"Debug Info Version", i32 3}
!4 = distinct !DISubprogram(name: "kernel", scope: !1, file: !1, line: 1, type: !5, \
spFlags: DISPFlagDefinition | DISPFlagOptimized, unit: !0)
!5 = !DISubroutineType(types: !6)
!6 = !{}
"""


def emit_annotated(program: Program, target: LlvmTarget) -> str:
    """The IR of one program; `; N` behind an instruction names line N (from 1) of `str(program)`.

    Raises ProgramError for what cannot be emitted.
    """
    emitter = _Annotated(program, target)
    function = emitter.define()
    head = f'target triple = "{target.triple}"\n'
    return "\n".join([head, function, *sorted(emitter.declared), ""])


def origins(annotated: str) -> list[int]:
    """For every line of `emit_annotated`'s text the line of the Program, 0 where there is none."""
    found = (_ORIGIN.search(line) for line in annotated.splitlines())
    return [int(match[1]) if match else 0 for match in found]


def with_locations(annotated: str) -> str:
    """The module with debug locations: each instruction's is its own line in `annotated`."""
    lines = []
    for number, line in enumerate(annotated.splitlines(), 1):
        if line.startswith("define "):
            line = line.removesuffix(" {") + " !dbg !4 {"
        elif line.startswith("  "):
            line = _ORIGIN.sub("", line) + f", !dbg !DILocation(line: {number}, scope: !4)"
        lines.append(line)
    return "\n".join(lines) + _DEBUG


class _Annotated(_Function):
    """The emitter, noting behind each line of IR which statement made it."""

    def __init__(self, program: Program, target: LlvmTarget):
        # Read back from its own text, so that no statement object occurs in two places.
        program = parse(str(program))
        super().__init__(program, target)
        head = len(program.params) + len(program.buffers) + 2
        self.numbers = {id(s): n for s, n in _numbered(program.body, head + 1)}

    def statement(self, s: Statement) -> None:
        begin = len(self.lines)
        super().statement(s)
        self.note(begin, self.numbers[id(s)])

    def note(self, begin: int, number: int) -> None:
        """Inner statements noted their own lines before; labels carry nothing."""
        for i in range(begin, len(self.lines)):
            line = self.lines[i]
            if line.startswith("  ") and not _ORIGIN.search(line):
                self.lines[i] = f"{line}  ; {number}"

    def block(self, body: Block) -> None:
        if body is self.program.body:  # what came before loads parameters and buffers, in order
            for i in range(len(self.lines)):
                self.lines[i] += f"  ; {2 + i // 2}"
        super().block(body)


def _numbered(block: Block, first: int) -> Iterator[tuple[Statement, int]]:
    """Every statement with the line on which `jit.program_text.show` prints it."""
    for s in block:
        yield s, first
        match s:
            case For(body=body):
                yield from _numbered(body, first + 1)
            case If(then=then, orelse=orelse):
                yield from _numbered(then, first + 1)
                yield from _numbered(orelse, first + 2 + max(1, len(show_block(then))))
        first += len(show_block((s,)))
