"""A picture of every scheme: which weights of a small layer stay.

`python -m refimpl.schemes.gallery > docs/schemes.md` draws them anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from refimpl.schemes import (
    BCR,
    KGS,
    NM,
    Channel,
    Dense,
    Filter,
    Pattern,
    Scheme,
    Unstructured,
    Vanilla,
)
from refimpl.storage import kept_bytes

_SHAPE = (8, 4, 3, 3)
_SHOWN: tuple[tuple[Scheme, float], ...] = (
    (Dense(), 1),
    (Unstructured(), 0.3),
    (Filter(), 0.4),
    (Channel(), 0.5),
    (Vanilla(4, 1), 0.4),
    (KGS(4, 2), 0.3),
    (BCR(4, 12), 0.3),
    (Pattern(4, 3), 0.3),
    (NM(2, 4), 0.5),
)
_INTRODUCTION = f"""# Sparse schemes

What may be removed together.  Each picture is the mask that `project` finds for the same random
weight of {_SHAPE[0]} filters, {_SHAPE[1]} channels and {_SHAPE[2]} x {_SHAPE[3]} kernels: a line is
a filter, a run of nine signs one of its kernels; `#` stays, `.` leaves.  The definitions are in
`refimpl/schemes/`, one scheme a file.

Drawn by `python -m refimpl.schemes.gallery > docs/schemes.md`.
"""


def gallery() -> str:
    """The pictures as Markdown, each with what the scheme says of its mask."""
    weight = np.random.default_rng(8).standard_normal(_SHAPE)
    sections = (_section(scheme, weight, keep) for scheme, keep in _SHOWN)
    return "\n".join([_INTRODUCTION, *sections])


def picture(mask: np.ndarray) -> Iterator[str]:
    """The lines of a mask, bool (F, C, *kernel): one a filter, channels apart."""
    for kernels in mask.reshape(*mask.shape[:2], -1):
        yield " ".join("".join(np.where(kernel, "#", ".")) for kernel in kernels)


def _section(scheme: Scheme, weight: np.ndarray, keep: float) -> str:
    mask = scheme.project(weight, keep)
    values, indices = kept_bytes(scheme, mask)
    about = sys.modules[type(scheme).__module__].__doc__ or ""
    return "\n".join(
        [
            f"## {scheme}",
            "",
            about.partition("\n")[0],
            "",
            "```",
            *picture(mask),
            "```",
            "",
            f"{np.count_nonzero(mask)} of {mask.size} weights stay, chosen by "
            f"{scheme.degrees_of_freedom(mask.shape):.0f} bits; packed they take {values} bytes, "
            f"their indices {indices}.",
            "",
        ]
    )


if __name__ == "__main__":
    print(gallery(), end="")
