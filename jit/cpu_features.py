"""From what a processor says of itself to the names LLVM knows its features by.

Only features that emitted code can use are named.  On x86-64 the words are those of CPUID, masked
by what the system saves across context switches (XCR0); on aarch64 they are AT_HWCAP and
AT_HWCAP2, which the kernel has masked already.
"""

from __future__ import annotations

from collections.abc import Sequence

_AVX_STATE, _AVX512_STATE = 0x06, 0xE6

_X86_WORDS: tuple[str, ...] = ("1c", "7b", "7c", "7d", "71a", "81c", "xcr0")
"""The words in the agent's order, named by leaf, subleaf and register."""

# (CPUID word, bit) -> name
_X86_BASE = {
    ("1c", 0): "sse3",
    ("1c", 9): "ssse3",
    ("1c", 19): "sse4.1",
    ("1c", 20): "sse4.2",
    ("1c", 23): "popcnt",
    ("7b", 3): "bmi",
    ("7b", 8): "bmi2",
    ("81c", 5): "lzcnt",
}
_X86_AVX = {
    ("1c", 28): "avx",
    ("1c", 12): "fma",
    ("1c", 29): "f16c",
    ("7b", 5): "avx2",
    ("71a", 4): "avxvnni",
}
_X86_AVX512 = {
    ("7b", 16): "avx512f",
    ("7b", 17): "avx512dq",
    ("7b", 21): "avx512ifma",
    ("7b", 28): "avx512cd",
    ("7b", 30): "avx512bw",
    ("7b", 31): "avx512vl",
    ("7c", 1): "avx512vbmi",
    ("7c", 6): "avx512vbmi2",
    ("7c", 11): "avx512vnni",
    ("7c", 12): "avx512bitalg",
    ("7c", 14): "avx512vpopcntdq",
    ("7d", 23): "avx512fp16",
    ("71a", 5): "avx512bf16",
}

_HWCAP = {
    0: "fp-armv8",
    1: "neon",
    3: "aes",
    6: "sha2",
    7: "crc",
    8: "lse",
    12: "rdm",
    13: "jsconv",
    14: "complxnum",
    15: "rcpc",
    20: "dotprod",
    22: "sve",
    23: "fp16fml",
}
_HWCAP_HALF = 1 << 9 | 1 << 10  # scalar and vector half precision: LLVM has one name for both
_HWCAP2 = {1: "sve2", 10: "f32mm", 11: "f64mm", 13: "i8mm", 14: "bf16"}

X86_NAMES = frozenset({*_X86_BASE.values(), *_X86_AVX.values(), *_X86_AVX512.values()})
"""Every x86-64 feature that is looked for."""


def x86_features(cpuid: Sequence[int]) -> frozenset[str]:
    """LLVM's names for CPUID's bits.

    Args:
        cpuid: 32-bit words in the agent's order: leaf 1's ECX; leaf 7 subleaf 0's EBX, ECX, EDX;
            leaf 7 subleaf 1's EAX; leaf 0x80000001's ECX; XCR0, 0 where XGETBV is absent.
    """
    words = dict(zip(_X86_WORDS, cpuid, strict=True))
    xcr0 = words["xcr0"]
    bits = dict(_X86_BASE)
    if xcr0 & _AVX_STATE == _AVX_STATE:
        bits |= _X86_AVX
    if xcr0 & _AVX512_STATE == _AVX512_STATE:
        bits |= _X86_AVX512
    return frozenset(name for (word, bit), name in bits.items() if words[word] >> bit & 1)


def aarch64_features(hwcap: int, hwcap2: int) -> frozenset[str]:
    """LLVM's names for the kernel's AT_HWCAP and AT_HWCAP2 bits."""
    names = {name for bit, name in _HWCAP.items() if hwcap >> bit & 1}
    names |= {name for bit, name in _HWCAP2.items() if hwcap2 >> bit & 1}
    if hwcap & _HWCAP_HALF == _HWCAP_HALF:
        names.add("fullfp16")
    return frozenset(names)
