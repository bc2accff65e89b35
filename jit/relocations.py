"""The relocations emitted code may carry, as one table per architecture.

A relocation asks for a distance to be written into bits of an instruction or a data word.  Every
row says how the distance is measured and which bits hold it; `patch` is the only thing that reads
the rows.  Nothing here depends on where the code will lie, as long as it lies at a page boundary:
what does (an absolute 64-bit pointer) is named by `ABSOLUTE` and left to the linker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ADRP_PAGE = 4096
"""The unit of ADRP, whatever the page size of the system: code lies at a multiple of it."""


class RelocationError(ValueError):
    """A distance that its field cannot hold; the message says which and by how much."""


@dataclass(frozen=True)
class Relocation:
    """How a distance is measured and stored.

    Attributes:
        name: the name in the architecture's ELF supplement, without its R_ prefix.
        measure: "pc" is target - place, "page" the same between their 4 KiB pages, "low12" the
            target's offset in its page.
        slots: (lowest bit, width) of each field, filled from the value's low bits upwards.
        shift: low bits of the distance that must be zero and are not stored.
        size: bytes of the little-endian word that is patched.
    """

    name: str
    measure: Literal["pc", "page", "low12"]
    slots: tuple[tuple[int, int], ...]
    shift: int = 0
    size: int = 4


def _low12(name: str, shift: int) -> Relocation:
    return Relocation(name, "low12", ((10, 12),), shift)


_ADR_SLOTS = ((29, 2), (5, 19))

AARCH64: dict[int, Relocation] = {
    260: Relocation("AARCH64_PREL64", "pc", ((0, 64),), size=8),
    261: Relocation("AARCH64_PREL32", "pc", ((0, 32),)),
    273: Relocation("AARCH64_LD_PREL_LO19", "pc", ((5, 19),), 2),
    274: Relocation("AARCH64_ADR_PREL_LO21", "pc", _ADR_SLOTS),
    275: Relocation("AARCH64_ADR_PREL_PG_HI21", "page", _ADR_SLOTS, 12),
    277: _low12("AARCH64_ADD_ABS_LO12_NC", 0),
    278: _low12("AARCH64_LDST8_ABS_LO12_NC", 0),
    279: Relocation("AARCH64_TSTBR14", "pc", ((5, 14),), 2),
    280: Relocation("AARCH64_CONDBR19", "pc", ((5, 19),), 2),
    282: Relocation("AARCH64_JUMP26", "pc", ((0, 26),), 2),
    283: Relocation("AARCH64_CALL26", "pc", ((0, 26),), 2),
    284: _low12("AARCH64_LDST16_ABS_LO12_NC", 1),
    285: _low12("AARCH64_LDST32_ABS_LO12_NC", 2),
    286: _low12("AARCH64_LDST64_ABS_LO12_NC", 3),
    299: _low12("AARCH64_LDST128_ABS_LO12_NC", 4),
}

X86_64: dict[int, Relocation] = {
    2: Relocation("X86_64_PC32", "pc", ((0, 32),)),
    4: Relocation("X86_64_PLT32", "pc", ((0, 32),)),
    24: Relocation("X86_64_PC64", "pc", ((0, 64),), size=8),
}

TABLES = {"aarch64": AARCH64, "x86_64": X86_64}

ABSOLUTE = {"aarch64": 257, "x86_64": 1}
"""The type number of the absolute 64-bit pointer (ABS64, R_X86_64_64)."""

REFUSED = {
    "aarch64": {
        **dict.fromkeys(range(263, 273), "it holds an absolute address (large code model)"),
        311: "it goes through a global offset table",
        312: "it goes through a global offset table",
        **dict.fromkeys(range(512, 574), "it reaches thread-local storage"),
    },
    "x86_64": {
        **dict.fromkeys((9, 41, 42), "it goes through a global offset table"),
        **dict.fromkeys((10, 11), "it holds an absolute 32-bit address"),
        **dict.fromkeys((19, 20, 21, 22, 23), "it reaches thread-local storage"),
    },
}
"""Types that compilers do emit and that no placement of ours can satisfy, with the reason."""


def patch(code: bytearray, place: int, target: int, relocation: Relocation) -> None:
    """Write the distance from `place` to `target` (byte offsets in `code`) into the word there.

    Raises:
        RelocationError: the distance is misaligned or does not fit its field.
    """
    distance = _measure(place, target, relocation)
    value, rest = divmod(distance, 1 << relocation.shift)
    width = sum(bits for _, bits in relocation.slots)
    if rest:
        raise RelocationError(f"distance {distance} is not a multiple of {1 << relocation.shift}")
    if relocation.measure != "low12" and not -(1 << (width - 1)) <= value < 1 << (width - 1):
        raise RelocationError(f"distance {distance} does not fit {width} bits")
    end = place + relocation.size
    word = int.from_bytes(code[place:end], "little")
    for low, bits in relocation.slots:
        mask = (1 << bits) - 1
        word = word & ~(mask << low) | (value & mask) << low
        value >>= bits
    code[place:end] = word.to_bytes(relocation.size, "little")


def _measure(place: int, target: int, relocation: Relocation) -> int:
    match relocation.measure:
        case "pc":
            return target - place
        case "page":
            return target // ADRP_PAGE * ADRP_PAGE - place // ADRP_PAGE * ADRP_PAGE
        case "low12":
            return target % ADRP_PAGE
