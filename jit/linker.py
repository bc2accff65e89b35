"""From relocatable objects to one blob of code that runs at any page boundary.

`link` reads what LLVM emits (ELF64, little-endian, aarch64 or x86-64), lays code and read-only
data one after the other, resolves every distance between them and keeps the few absolute pointers
as a list, which `Blob.placed` applies once the address is known.  Everything that would need a
loader is refused by name: symbols from outside, writable data, thread-local storage, offset
tables.  Compile with reloc="pic", codemodel="small" and hidden symbols, and nothing is refused.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jit.elf_object import MAX_BYTES, ElfObject, Fixup, LinkError, read_object
from jit.relocations import ABSOLUTE, ADRP_PAGE, REFUSED, TABLES, RelocationError, patch

__all__ = ["Blob", "LinkError", "link"]


@dataclass(frozen=True)
class Blob:
    """Linked code: it runs at any multiple of 4096 bytes once `placed` there.

    Attributes:
        arch: "aarch64" or "x86_64".
        code: instructions and read-only data, with all distances resolved.
        symbols: byte offset in `code` of every global symbol, and of each local function whose
            name nothing else has.
        absolutes: (offset, value) pairs; the 8 bytes at offset become base + value.
    """

    arch: str
    code: bytes
    symbols: Mapping[str, int] = field(default_factory=dict)
    absolutes: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.arch not in TABLES:
            raise LinkError(f"blob: unknown architecture {self.arch!r}, known: {', '.join(TABLES)}")
        if not self.code:
            raise LinkError("blob: it holds no code")
        for name, offset in self.symbols.items():
            if not 0 <= offset <= len(self.code):
                raise LinkError(f"blob: symbol {name!r} lies at {offset}, outside the code")
        for offset, _ in self.absolutes:
            if not 0 <= offset <= len(self.code) - 8:
                raise LinkError(f"blob: a pointer lies at {offset}, outside the code")

    def placed(self, base: int) -> bytes:
        """The bytes to put at address `base` (a multiple of 4096), pointers filled in.

        Raises:
            LinkError: `base` is not a multiple of 4096.
        """
        if base % ADRP_PAGE:
            raise LinkError(f"blob: cannot be placed at {base:#x}, not a multiple of {ADRP_PAGE}")
        code = bytearray(self.code)
        for offset, value in self.absolutes:
            struct.pack_into("<Q", code, offset, (base + value) % 2**64)
        return bytes(code)


def link(objects: Sequence[bytes]) -> Blob:
    """Link relocatable ELF64 objects of one architecture into a `Blob`.

    Args:
        objects: the files' bytes, as `TargetMachine.emit_object` returns them.

    Raises:
        LinkError: a malformed object, mixed architectures, a symbol that is undefined or defined
            twice, a relocation that needs an absolute place or a table, writable data.
    """
    if not objects:
        raise LinkError("link: no objects given")
    parsed = [read_object(f"object {index}", data) for index, data in enumerate(objects)]
    arch = parsed[0].arch
    for item in parsed:
        if item.arch != arch:
            raise LinkError(f"{item.label} is {item.arch}, the objects before it are {arch}")
    code, places = _lay_out(parsed)
    exported = _exports(parsed, places)
    absolutes: list[tuple[int, int]] = []
    for number, item in enumerate(parsed):
        for fixup in item.fixups:
            target = _target(item, number, fixup, places, exported) + fixup.addend
            place = places[number, fixup.section] + fixup.offset
            _apply(code, place, target, item, fixup, absolutes)
    symbols = _local_functions(parsed, places) | exported
    return Blob(arch, bytes(code), symbols, tuple(sorted(absolutes)))


def _lay_out(objects: Sequence[ElfObject]) -> tuple[bytearray, dict[tuple[int, int], int]]:
    """All sections, code first, and where each (object, section index) begins."""
    code, places = bytearray(), {}
    ordered = [(number, s) for number, item in enumerate(objects) for s in item.sections]
    for number, section in sorted(ordered, key=lambda pair: not pair[1].executable):
        code.extend(bytes(-len(code) % section.align))
        places[number, section.index] = len(code)
        code.extend(section.data)
        if len(code) > MAX_BYTES:
            raise LinkError(f"link: more than {MAX_BYTES} bytes of code and constants")
    return code, places


def _exports(objects: Sequence[ElfObject], places: Mapping[tuple[int, int], int]) -> dict[str, int]:
    """Offsets of all global symbols; a weak definition yields to a strong one."""
    found: dict[str, tuple[str, int]] = {}
    for number, item in enumerate(objects):
        for symbol in item.symbols:
            if symbol.bind == "STB_LOCAL" or (number, symbol.section) not in places:
                continue
            known = found.get(symbol.name)
            if known and "STB_WEAK" not in (known[0], symbol.bind):
                raise LinkError(f"{item.label}: symbol {symbol.name!r} is defined twice")
            if not known or known[0] == "STB_WEAK" != symbol.bind:
                offset = places[number, int(symbol.section)] + symbol.value
                found[symbol.name] = (symbol.bind, offset)
    return {name: offset for name, (_, offset) in found.items()}


def _local_functions(
    objects: Sequence[ElfObject], places: Mapping[tuple[int, int], int]
) -> dict[str, int]:
    """Offsets of local functions with a name of their own, so that a crash can be placed."""
    found = [
        (symbol.name, places[number, int(symbol.section)] + symbol.value)
        for number, item in enumerate(objects)
        for symbol in item.symbols
        if symbol.type == "STT_FUNC" and (number, symbol.section) in places
        if symbol.bind == "STB_LOCAL"
    ]
    times = Counter(name for name, _ in found)
    return {name: offset for name, offset in found if times[name] == 1}


def _target(
    item: ElfObject,
    number: int,
    fixup: Fixup,
    places: Mapping[tuple[int, int], int],
    exported: Mapping[str, int],
) -> int:
    symbol = item.symbols[fixup.symbol]
    if symbol.bind != "STB_LOCAL" and symbol.name in exported:
        return exported[symbol.name]
    if (number, symbol.section) in places:
        return places[number, int(symbol.section)] + symbol.value
    raise LinkError(
        f"{item.label}: symbol {symbol.name!r} is undefined; emitted code may call nothing from "
        'outside (a loop turned into memcpy or memset needs the attribute "no-builtins")'
    )


def _apply(
    code: bytearray,
    place: int,
    target: int,
    item: ElfObject,
    fixup: Fixup,
    absolutes: list[tuple[int, int]],
) -> None:
    name = item.symbols[fixup.symbol].name
    if fixup.type == ABSOLUTE[item.arch]:
        absolutes.append((place, target))
        return
    relocation = TABLES[item.arch].get(fixup.type)
    if relocation is None:
        reason = REFUSED[item.arch].get(fixup.type, "it is not one this linker knows")
        raise LinkError(
            f"{item.label}: relocation {fixup.type} for {name!r} is refused: {reason}; compile "
            'with reloc="pic", codemodel="small" and hidden symbols'
        )
    try:
        patch(code, place, target, relocation)
    except RelocationError as error:
        raise LinkError(f"{item.label}: {relocation.name} for {name!r}: {error}") from error
