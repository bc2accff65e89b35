"""Distances into bits, against encodings read off by a disassembler."""

import capstone
import pytest

from jit.relocations import AARCH64, X86_64, Relocation, RelocationError, patch

ENGINE = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)


def patched(word: int, place: int, target: int, relocation: Relocation) -> str:
    """The instruction at `place` after patching, as text with addresses."""
    code = bytearray(place + 8)
    code[place : place + 4] = word.to_bytes(4, "little")
    patch(code, place, target, relocation)
    instruction = next(ENGINE.disasm(bytes(code[place : place + 4]), place))
    return f"{instruction.mnemonic} {instruction.op_str}"


@pytest.mark.parametrize(
    ("kind", "word", "place", "target", "expected"),
    [
        (275, 0x90000000, 0x2FFC, 0x7ABC, "adrp x0, #0x7000"),
        (275, 0x90000000, 0x7FFC, 0x10, "adrp x0, #0"),
        (274, 0x10000000, 0x1004, 0x1001, "adr x0, #0x1001"),
        (277, 0x91000000, 0, 0x7ABD, "add x0, x0, #0xabd"),
        (278, 0x39400000, 0, 0x7ABD, "ldrb w0, [x0, #0xabd]"),
        (284, 0x79400000, 0, 0x7ABE, "ldrh w0, [x0, #0xabe]"),
        (285, 0xB9400000, 0, 0x7ABC, "ldr w0, [x0, #0xabc]"),
        (286, 0xF9400000, 0, 0x7AB8, "ldr x0, [x0, #0xab8]"),
        (299, 0x3DC00000, 0, 0x7AB0, "ldr q0, [x0, #0xab0]"),
        (283, 0x94000000, 0x100, 0x8, "bl #8"),
        (282, 0x14000000, 0x8, 0x7FFFFFC, "b #0x7fffffc"),
        (280, 0x54000000, 0x8, 0x100, "b.eq #0x100"),
        (279, 0x36000000, 0x8, 0x100, "tbz w0, #0, #0x100"),
        (273, 0x58000000, 0x8, 0x100, "ldr x0, #0x100"),
    ],
)
def test_encodings(kind: int, word: int, place: int, target: int, expected: str) -> None:
    assert patched(word, place, target, AARCH64[kind]) == expected


@pytest.mark.parametrize(
    ("relocation", "target"),
    [
        (AARCH64[283], 1 << 27),
        (AARCH64[283], -(1 << 27) - 4),
        (AARCH64[280], 1 << 20),
        (AARCH64[279], 1 << 15),
        (AARCH64[274], 1 << 20),
        (AARCH64[275], 1 << 32),
        (AARCH64[261], 1 << 31),
        (X86_64[2], 1 << 31),
        (X86_64[4], -(1 << 31) - 1),
    ],
)
def test_a_distance_that_does_not_fit_is_refused(relocation: Relocation, target: int) -> None:
    with pytest.raises(RelocationError, match="does not fit"):
        patch(bytearray(8), 0, target, relocation)


@pytest.mark.parametrize(("kind", "target"), [(283, 6), (286, 0x1004), (299, 0x1008), (285, 2)])
def test_a_misaligned_target_is_refused(kind: int, target: int) -> None:
    with pytest.raises(RelocationError, match="is not a multiple of"):
        patch(bytearray(4), 0, target, AARCH64[kind])


def test_words_keep_their_other_bits_and_may_be_wide() -> None:
    code = bytearray(b"\xff" * 16)
    patch(code, 4, 0, X86_64[2])
    assert code == b"\xff" * 4 + (-4 % 2**32).to_bytes(4, "little") + b"\xff" * 8
    patch(code, 8, 0, AARCH64[260])
    assert code[8:] == (-8 % 2**64).to_bytes(8, "little")
