"""From relocatable objects to one blob of code that runs at any page boundary.

`link` reads what LLVM emits (ELF64, little-endian, aarch64 or x86-64), lays code and read-only
data one after the other, resolves every distance between them and keeps the few absolute pointers
as a list, which `Blob.placed` applies once the address is known.  Everything that would need a
loader is refused by name: symbols from outside, writable data, thread-local storage, offset
tables.  Compile with reloc="pic", codemodel="small" and hidden symbols, and nothing is refused.
"""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section, SymbolTableSection

from jit.relocations import ABSOLUTE, ADRP_PAGE, REFUSED, TABLES, RelocationError, patch

_ARCHITECTURES = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64"}
_WRITE, _ALLOC, _EXEC, _TLS = 0x1, 0x2, 0x4, 0x400
_KEPT = (".text", ".rodata", ".data.rel.ro")  # .data.rel.ro: read-only once pointers are placed
_DROPPED = (".eh_frame", ".comment", ".note", ".llvm_addrsig", ".llvm.")
_MAX_BYTES = 1 << 28


class LinkError(ValueError):
    """An object that cannot become a blob; the message names the object and the symbol."""


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


@dataclass(frozen=True)
class _Symbol:
    name: str
    section: int | str  # index, or "SHN_UNDEF", "SHN_ABS", "SHN_COMMON"
    value: int
    bind: str
    type: str


@dataclass(frozen=True)
class _Section:
    index: int
    name: str
    flags: int
    align: int
    data: bytes


@dataclass(frozen=True)
class _Fixup:
    section: int
    offset: int
    type: int
    symbol: int
    addend: int


@dataclass(frozen=True)
class _Object:
    """What linking needs of one object file."""

    label: str
    arch: str
    sections: tuple[_Section, ...]
    symbols: tuple[_Symbol, ...]
    fixups: tuple[_Fixup, ...]


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
    parsed = [_parse(f"object {index}", data) for index, data in enumerate(objects)]
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


def _lay_out(objects: Sequence[_Object]) -> tuple[bytearray, dict[tuple[int, int], int]]:
    """All sections, code first, and where each (object, section index) begins."""
    code, places = bytearray(), {}
    ordered = [(number, s) for number, item in enumerate(objects) for s in item.sections]
    for number, section in sorted(ordered, key=lambda pair: not pair[1].flags & _EXEC):
        code.extend(bytes(-len(code) % section.align))
        places[number, section.index] = len(code)
        code.extend(section.data)
        if len(code) > _MAX_BYTES:
            raise LinkError(f"link: more than {_MAX_BYTES} bytes of code and constants")
    return code, places


def _exports(objects: Sequence[_Object], places: Mapping[tuple[int, int], int]) -> dict[str, int]:
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
    objects: Sequence[_Object], places: Mapping[tuple[int, int], int]
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
    item: _Object,
    number: int,
    fixup: _Fixup,
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
    item: _Object,
    fixup: _Fixup,
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


def _parse(label: str, data: bytes) -> _Object:
    """Read one object; whatever a damaged file makes pyelftools raise becomes a LinkError."""
    try:
        return _read(label, data)
    except LinkError:
        raise
    except Exception as error:  # pyelftools raises many kinds on damaged input
        raise LinkError(f"{label} is not a readable ELF object: {error!r}") from error


def _read(label: str, data: bytes) -> _Object:
    elf = ELFFile(io.BytesIO(data))
    arch = _ARCHITECTURES.get(elf["e_machine"])
    if elf.elfclass != 64 or not elf.little_endian or elf["e_type"] != "ET_REL" or arch is None:
        raise LinkError(
            f"{label} is {elf['e_machine']}, {elf['e_type']}, {elf.elfclass} bits; expected a "
            "little-endian 64-bit relocatable object for aarch64 or x86-64"
        )
    sections = list(elf.iter_sections())
    symbols = tuple(_symbols(sections))
    kept = tuple(_kept(label, sections, symbols))
    fixups = tuple(_fixups(label, sections, {s.index: len(s.data) for s in kept}, arch))
    for fixup in fixups:
        if fixup.symbol >= len(symbols):
            raise LinkError(f"{label}: a relocation names symbol {fixup.symbol} of {len(symbols)}")
    return _Object(label, arch, kept, symbols, fixups)


def _symbols(sections: Sequence[Section]) -> Iterator[_Symbol]:
    for table in sections:
        if isinstance(table, SymbolTableSection):
            for symbol in table.iter_symbols():
                place = symbol["st_shndx"]
                named = symbol.name or (sections[place].name if isinstance(place, int) else "")
                info = symbol["st_info"]
                yield _Symbol(named, place, symbol["st_value"], info["bind"], info["type"])
            return


def _kept(
    label: str, sections: Sequence[Section], symbols: Sequence[_Symbol]
) -> Iterator[_Section]:
    """The sections that go into the blob; a section that matters and cannot is refused."""
    for symbol in symbols:
        if symbol.section == "SHN_COMMON":
            raise LinkError(f"{label}: {symbol.name!r} is writable common data")
    for index, section in enumerate(sections):
        flags, name = section["sh_flags"], section.name
        if not flags & _ALLOC or not section["sh_size"] or name.startswith(_DROPPED):
            continue
        if not name.startswith(_KEPT) or flags & _TLS or section["sh_type"] != "SHT_PROGBITS":
            inside = [s.name for s in symbols if s.section == index and s.name[:1] not in "$."]
            raise LinkError(
                f"{label}: section {name!r} ({', '.join(inside) or 'no symbols'}) is writable, "
                "thread-local or of an unknown kind; emitted code keeps its data in its arguments"
            )
        yield _checked(label, index, section)


def _checked(label: str, index: int, section: Section) -> _Section:
    align, size = max(1, section["sh_addralign"]), section["sh_size"]
    if align > ADRP_PAGE or align & (align - 1):
        raise LinkError(f"{label}: section {section.name!r} wants an alignment of {align}")
    data = section.data() if size <= _MAX_BYTES else b""
    if len(data) != size:
        raise LinkError(f"{label}: section {section.name!r} is cut short")
    return _Section(index, section.name, section["sh_flags"], align, data)


def _fixups(
    label: str, sections: Sequence[Section], kept: Mapping[int, int], arch: str
) -> Iterator[_Fixup]:
    """Relocations of kept sections, each checked to lie inside its section."""
    for section in sections:
        if not isinstance(section, RelocationSection) or section["sh_info"] not in kept:
            continue
        if not section.is_RELA():
            raise LinkError(f"{label}: {section.name!r} has relocations without addends")
        where = section["sh_info"]
        for entry in section.iter_relocations():
            kind, offset = entry["r_info_type"], entry["r_offset"]
            known = TABLES[arch].get(kind)
            size = known.size if known else 8 if kind == ABSOLUTE[arch] else 4
            if offset + size > kept[where]:
                raise LinkError(f"{label}: {section.name!r} reaches outside its section")
            yield _Fixup(where, offset, kind, entry["r_info_sym"], entry["r_addend"])
