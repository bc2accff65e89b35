"""What a model holds, as far as that can be told of one that cannot be captured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from refimpl.importers.exported import Program
from refimpl.importers.walk import Folder, unsupported


@dataclass(frozen=True)
class Survey:
    """What a model holds.

    Attributes:
        name: of the model.
        inputs: by name, the sizes, open ones by their name.
        operators: how many there are of each, by the names that the model's format has for them.
        parameters: elements of its constants, those that are tied once.
        nbytes: of its constants, but for those of types that are unknown here.
        unsupported: a sentence for every operator without a counterpart here, with its place.
    """

    name: str
    inputs: Mapping[str, tuple[int | str, ...]]
    operators: Mapping[str, int]
    parameters: int
    nbytes: int
    unsupported: tuple[str, ...]


def survey_of(program: Program, folder: Folder) -> Survey:
    """What an exported program holds."""
    arrays = {id(known.array): known.array for known in program.known.values()}
    held = [array for array in arrays.values() if array is not None]
    return Survey(
        program.name,
        {x.name: x.shape for x in program.inputs},
        counts(step.target for step in program.steps),
        sum(array.size for array in held),
        sum(array.nbytes for array in held),
        tuple(unsupported(program, folder)),
    )


def counts(names: Iterable[str]) -> dict[str, int]:
    """How often each occurs, the most frequent first."""
    return dict(Counter(names).most_common())
