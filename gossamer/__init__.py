"""Gossamer: prune networks with fine-grained structure, and compile them to machine code.

import gossamer

graph = gossamer.capture(model, (x,))            # nn.Module and example inputs, .pt2 or .onnx
plan = gossamer.plan(graph, target="host")       # every decision; print(plan) says which and why
with gossamer.compile(plan, device="host") as net:
    y = net(x)                                   # arrays or torch tensors
    print(net.profile(x, runs=50))               # per layer p10, p50, p90
print(gossamer.check(plan, device="host-isolated"))
gossamer.save(plan, "net.safetensors")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.capturing import capture
    from gossamer.errors import ERRORS, ModelError
    from gossamer.front import check, compile, load, plan, save, tune
    from gossamer.listing import assembly_text, llvm_text
    from gossamer.network import Network
    from gossamer.profile import Profile, ProfileRow

_HOMES = {
    "capturing": ("capture",),
    "errors": ("ERRORS", "ModelError"),
    "front": ("check", "compile", "load", "plan", "save", "tune"),
    "listing": ("assembly_text", "llvm_text"),
    "network": ("Network",),
    "profile": ("Profile", "ProfileRow"),
}

__all__ = [
    "ERRORS",
    "ModelError",
    "Network",
    "Profile",
    "ProfileRow",
    "assembly_text",
    "capture",
    "check",
    "compile",
    "llvm_text",
    "load",
    "plan",
    "save",
    "tune",
]


def __getattr__(name: str) -> Any:
    # Imported when first asked for, so that the command line is there at once and can answer
    # Ctrl-C while LLVM is loaded.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"gossamer.{module}"), name)
    raise AttributeError(f"module 'gossamer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
