"""Gossamer: prune networks with fine-grained structure, and compile them to machine code.

import gossamer

graph = gossamer.capture(model, (x,))            # nn.Module and example inputs
plan = gossamer.plan(graph, target="host")       # every decision; print(plan) says which and why
with gossamer.compile(plan, device="host") as net:
    y = net(x)                                   # arrays or torch tensors
    print(net.profile(x, runs=50))               # per layer p10, p50, p90
print(gossamer.check(plan, device="host-isolated"))
gossamer.save(plan, "net.safetensors")
"""

from gossamer.errors import ERRORS, ModelError
from gossamer.front import capture, check, compile, load, plan, save
from gossamer.listing import assembly_text, llvm_text
from gossamer.network import Network
from gossamer.profile import Profile, ProfileRow

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
]
