"""Network: a compiled plan on a device, called like a function."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from gossamer.listing import assembly_text, llvm_text
from gossamer.profile import Profile, profile_of
from jit.executable import Executable
from jit.pipeline import Kernel
from refimpl.plan import Plan


class Network:
    """A network that is ready to run; a context manager that gives its memory back."""

    def __init__(self, executable: Executable):
        """Args: the loaded code, which the network now owns, with its device."""
        self.executable = executable

    @property
    def plan(self) -> Plan:
        """The decisions it was made from."""
        return self.executable.plan

    @property
    def device(self) -> str:
        """The device's name."""
        return self.executable.session.name

    @property
    def kernels(self) -> dict[str, Kernel]:
        """What was compiled, by symbol."""
        return self.executable.artifact.kernels

    def __call__(self, *inputs: Any) -> Any:
        """Run on arrays or torch tensors of the plan's shapes, taken as float32.

        Returns:
            The output, or a tuple where there are several; tensors if the inputs are tensors.

        Raises:
            InputError: an input does not fit. DeviceError: the device failed.
        """
        outputs = self.executable(*(_array(x) for x in inputs))
        if any(_is_tensor(x) for x in inputs):
            import torch

            outputs = tuple(torch.from_numpy(y.copy()) for y in outputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def profile(self, *inputs: Any, runs: int = 50) -> Profile:
        """Time every layer and the whole network: p10, p50 and p90 of `runs` passes."""
        return profile_of(self.executable, [_array(x) for x in inputs], runs)

    def instructions(self, *inputs: Any) -> dict[str, int]:
        """Guest instructions of every step, for a device opened with `counting`.

        Raises:
            DeviceError: the device cannot count; the message says which can.
        """
        return self.executable.instructions(*(_array(x) for x in inputs))

    def asm(self, layer: str | None = None) -> str:
        """The assembly of a layer's kernels, or of all. Raises ModelError for an unknown layer."""
        return assembly_text(self.executable.artifact, layer)

    def llvm(self, layer: str | None = None) -> str:
        """The LLVM IR of a layer's kernels, or of all. Raises ModelError for an unknown layer."""
        return llvm_text(self.executable.artifact, layer)

    def close(self) -> None:
        """Give back the device and all memory on it; closing twice is harmless."""
        self.executable.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Network {self.plan.name} for {self.plan.target} on {self.device}>"


def _is_tensor(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "torch"


def _array(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if _is_tensor(x) else np.asarray(x)
