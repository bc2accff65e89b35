"""What the rules of this importer compute with: values of the Graph, and values known already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refimpl.ops import Shape


@dataclass(frozen=True, eq=False)
class Known:
    """A value that does not depend on the Graph's inputs.

    It becomes a constant of the Graph where an operator reads it, and must then be float32; until
    then it may be of any type and may be empty, as the shapes that models compute with are.
    """

    name: str
    array: np.ndarray

    @property
    def shape(self) -> Shape:
        """Of the array."""
        return self.array.shape


@dataclass(frozen=True)
class Value:
    """A value of the Graph, by its name there.

    Attributes:
        name: in the Graph.
        shape: its shape.
        whole: it holds integers (as float32), which only an embedding can read.
    """

    name: str
    shape: Shape
    whole: bool = False


Operand = Known | Value
