"""Target: the machine that code is made for, and the only source of feature strings.

A Target says what may be emitted; a Device (`jit.devices`) says where it runs.  Nothing else in
the project writes a feature string for LLVM, so no instruction can be emitted that the target
lacks: LLVM does not refuse such code, it aborts the process.
"""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar

import llvmlite.binding as llvm

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()


class TargetError(ValueError):
    """An unknown target; the message lists the known ones."""


@dataclass(frozen=True)
class Target(ABC):
    """A machine: what the planner counts with, whatever its code is written in.

    `features` is what code may use and a device must have; `vector_bits` is the widest vector
    used, `registers` the number of vector registers, `l1_bytes` and `l2_bytes` the data caches
    of one core, `pipes` how many vector FMAs and `loads` how many vector loads start per cycle,
    `latency` the cycles of a dependent FMA.
    """

    name: str
    features: tuple[str, ...]
    vector_bits: int
    registers: int
    l1_bytes: int
    l2_bytes: int
    pipes: float
    loads: float
    latency: int

    grid: ClassVar[bool] = False
    """Whether kernels are grids of work items rather than walks of one thread."""

    @property
    @abstractmethod
    def arch(self) -> str:
        """ "x86_64", "aarch64" or "opencl"; a device runs code of one of them."""

    @property
    def lanes(self) -> int:
        """float32 values in the widest vector."""
        return self.vector_bits // 32

    def has(self, feature: str) -> bool:
        """True if the feature may be used."""
        return feature in self.features


@dataclass(frozen=True)
class LlvmTarget(Target):
    """A CPU that LLVM makes code for: its triple, its name there; features are LLVM's names."""

    triple: str
    cpu: str

    @property
    def arch(self) -> str:
        """ "x86_64" or "aarch64"."""
        return self.triple.split("-")[0]

    def has(self, feature: str) -> bool:
        """True if the feature (LLVM's name) may be used."""
        # What every aarch64 core with NEON has, LLVM has no names for there.
        implied = feature in ("fma", "f16c") and "neon" in self.features
        return feature in self.features or implied

    @property
    def pause(self) -> tuple[str, str]:
        """(arguments, declaration) of the LLVM intrinsic that lets a core rest while it spins."""
        if self.arch == "x86_64":
            return "@llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"
        return "@llvm.aarch64.isb(i32 15)", "declare void @llvm.aarch64.isb(i32)"

    @property
    def feature_string(self) -> str:
        """LLVM's feature list."""
        # Wide vectors are written explicitly; LLVM must not split them on CPUs that prefer 256.
        extra = ["-prefer-256-bit"] if "avx512f" in self.features else []
        return ",".join([*(f"+{f}" for f in self.features), *extra])


@dataclass(frozen=True)
class OpenCLTarget(Target):
    """Any OpenCL 1.2 device whose float32 arithmetic keeps the promises in `features`."""

    grid: ClassVar[bool] = True

    @property
    def arch(self) -> str:
        """ "opencl"."""
        return "opencl"


_X86_BASE = ()  # SSE2 belongs to every x86-64 CPU
_AVX2 = (
    *_X86_BASE,
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2",
    "popcnt",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "bmi",
    "bmi2",
    "lzcnt",
)
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")
_KB, _MB = 1024, 1024 * 1024

_X86 = "x86_64-unknown-linux-gnu"
_ARM = "aarch64-unknown-linux-gnu"


def _x86(name: str, cpu: str, features: tuple[str, ...], bits: int, registers: int) -> LlvmTarget:
    return LlvmTarget(
        name, features, bits, registers, 48 * _KB, 2 * _MB, 2, 2, 4, triple=_X86, cpu=cpu
    )


def _arm(
    cpu: str,
    *extra: str,
    l1: int = 64,
    l2: int = 512,
    pipes: float = 2,
    loads: float = 2,
    latency: int = 4,
) -> LlvmTarget:
    features = ("neon", "fp-armv8", *extra)
    return LlvmTarget(
        cpu, features, 128, 32, l1 * _KB, l2 * _KB, pipes, loads, latency, triple=_ARM, cpu=cpu
    )


def _opencl() -> OpenCLTarget:
    """float4 arithmetic on a mobile GPU: 24 private vectors still leave room for enough work
    items, and those hide the latency of each other."""
    features = ("fma", "inf-nan", "rounded-divide")
    return OpenCLTarget("opencl", features, 128, 24, 16 * _KB, 512 * _KB, 1, 0.5, 1)


_NEW = ("fullfp16", "dotprod", "lse")
_TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        _x86("x86-64-sse", "x86-64", _X86_BASE, 128, 16),
        _x86("x86-64-avx2", "haswell", _AVX2, 256, 16),
        _x86("x86-64-avx512", "skylake-avx512", _AVX512, 512, 32),
        _arm("cortex-a53", l1=32, l2=512, pipes=0.5, loads=0.5, latency=8),
        _arm("cortex-a55", *_NEW, l1=32, l2=256, pipes=1, loads=0.5, latency=8),
        _arm("cortex-a57", l1=32, l2=1024, pipes=1, loads=1, latency=5),
        _arm("cortex-a72", l1=32, l2=1024, pipes=1, loads=1, latency=5),
        _arm("cortex-a76", *_NEW),
        _arm("cortex-a78", *_NEW),
        _arm("cortex-x1", *_NEW, l2=1024, pipes=4, loads=3),
        _arm("neoverse-n1", *_NEW, l2=1024),
        _arm("neoverse-v1", *_NEW, l2=1024, pipes=4, loads=3),
        _arm("apple-m1", *_NEW, l1=128, l2=3072, pipes=4, loads=3),
        _opencl(),
    )
}


def target(name: str) -> Target:
    """The Target of that name; "host" is this machine. Raises TargetError for an unknown one."""
    if name == "host":
        return host_target()
    if name not in _TARGETS:
        known = ", ".join(["host", *sorted(_TARGETS)])
        raise TargetError(f"unknown target {name!r}; known targets: {known}")
    return _TARGETS[name]


def llvm_target(name: str) -> LlvmTarget:
    """The Target of that name. Raises TargetError if it is unknown or no CPU."""
    found = target(name)
    if not isinstance(found, LlvmTarget):
        raise TargetError(f"LLVM makes no code for target {name!r}; choose a CPU")
    return found


def target_names() -> list[str]:
    """Every name `target` accepts."""
    return ["host", *_TARGETS]


@lru_cache(maxsize=1)
def host_target() -> Target:
    """The best known target that this CPU can run."""
    features = {name for name, present in llvm.get_host_cpu_features().items() if present}
    if platform.machine() in ("aarch64", "arm64"):
        new = features >= {"fullfp16", "dotprod", "lse"}
        return _TARGETS["cortex-a76" if new else "cortex-a53"]
    for name in ("x86-64-avx512", "x86-64-avx2", "x86-64-sse"):
        if set(_TARGETS[name].features) <= features:
            return _TARGETS[name]
    raise TargetError(f"this CPU ({platform.machine()}) lacks SSE2; no target fits it")


@cache
def target_machine(target: LlvmTarget, optimisation: int = 2) -> llvm.TargetMachine:
    """LLVM's code generator for the target: position independent, small code model."""
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.feature_string,
        opt=optimisation,
        reloc="pic",
        codemodel="small",
    )
