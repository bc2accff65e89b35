"""Reading relocatable ELF64 objects: the sections, symbols and relocations that linking needs.

Objects may come from a cache on disk, so nothing in them is believed: whatever is damaged, or would
need a loader to work (writable data, thread-local storage), is a `LinkError`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section, SymbolTableSection

from jit.relocations import ABSOLUTE, ADRP_PAGE, TABLES

MAX_BYTES = 1 << 28
"""Bytes of code and constants that one blob may hold."""

_ARCHITECTURES = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64"}
_ALLOC, _EXECUTABLE, _TLS = 0x2, 0x4, 0x400
_KEPT = (".text", ".rodata", ".data.rel.ro")  # .data.rel.ro: read-only once pointers are placed
_DROPPED = (".eh_frame", ".comment", ".note", ".llvm_addrsig", ".llvm.")


class LinkError(ValueError):
    """An object that cannot become a blob; the message names the object and the symbol."""


@dataclass(frozen=True)
class ElfSymbol:
    """A symbol: where it lies, how it binds ("STB_...") and what it is ("STT_...")."""

    name: str
    section: int | str  # index, or "SHN_UNDEF", "SHN_ABS", "SHN_COMMON"
    value: int
    bind: str
    type: str


@dataclass(frozen=True)
class ElfSection:
    """A section that goes into the blob."""

    index: int
    name: str
    executable: bool
    align: int
    data: bytes


@dataclass(frozen=True)
class Fixup:
    """A relocation: where, of which type, towards which symbol plus addend."""

    section: int
    offset: int
    type: int
    symbol: int
    addend: int


@dataclass(frozen=True)
class ElfObject:
    """What linking needs of one object file."""

    label: str
    arch: str
    sections: tuple[ElfSection, ...]
    symbols: tuple[ElfSymbol, ...]
    fixups: tuple[Fixup, ...]


def read_object(label: str, data: bytes) -> ElfObject:
    """Read one object, called `label` in messages.

    Raises:
        LinkError: it is damaged, of another kind, or needs what no blob has.
    """
    try:
        return _read(label, data)
    except LinkError:
        raise
    except Exception as error:  # pyelftools raises many kinds on damaged input
        raise LinkError(f"{label} is not a readable ELF object: {error!r}") from error


def _read(label: str, data: bytes) -> ElfObject:
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
    return ElfObject(label, arch, kept, symbols, fixups)


def _symbols(sections: Sequence[Section]) -> Iterator[ElfSymbol]:
    for table in sections:
        if isinstance(table, SymbolTableSection):
            for symbol in table.iter_symbols():
                place = symbol["st_shndx"]
                named = symbol.name or (sections[place].name if isinstance(place, int) else "")
                info = symbol["st_info"]
                yield ElfSymbol(named, place, symbol["st_value"], info["bind"], info["type"])
            return


def _kept(
    label: str, sections: Sequence[Section], symbols: Sequence[ElfSymbol]
) -> Iterator[ElfSection]:
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


def _checked(label: str, index: int, section: Section) -> ElfSection:
    align, size = max(1, section["sh_addralign"]), section["sh_size"]
    if align > ADRP_PAGE or align & (align - 1):
        raise LinkError(f"{label}: section {section.name!r} wants an alignment of {align}")
    data = section.data() if size <= MAX_BYTES else b""
    if len(data) != size:
        raise LinkError(f"{label}: section {section.name!r} is cut short")
    return ElfSection(index, section.name, bool(section["sh_flags"] & _EXECUTABLE), align, data)


def _fixups(
    label: str, sections: Sequence[Section], kept: Mapping[int, int], arch: str
) -> Iterator[Fixup]:
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
            yield Fixup(where, offset, kind, entry["r_info_sym"], entry["r_addend"])
