"""Schemes as text: `kgs(gf=8,gc=4)`, which `str` writes, and the short form `kgs:8x4`.

Sizes with a default may be left out: `nm:2x4` is `nm(n=2,m=4,axis=1)`.  In the short form they
come in the order of the scheme's fields: `bcr:16x32x30` is `bcr(br=16,bc=32,rows=30)`.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, fields

from refimpl.schemes.bcr import BCR
from refimpl.schemes.channel import Channel
from refimpl.schemes.dense import Dense
from refimpl.schemes.filter import Filter
from refimpl.schemes.kgs import KGS
from refimpl.schemes.nm import NM
from refimpl.schemes.pattern import Pattern
from refimpl.schemes.scheme import Scheme, SchemeError
from refimpl.schemes.unstructured import Unstructured
from refimpl.schemes.vanilla import Vanilla

SCHEMES: dict[str, type[Scheme]] = {
    kind.name: kind
    for kind in (Dense, Unstructured, Filter, Channel, Vanilla, KGS, BCR, Pattern, NM)
}
"""Every scheme by its name."""

_LONG = re.compile(r"(?P<name>[a-z]+)(\((?P<sizes>[a-z]+=\d{1,9}(,[a-z]+=\d{1,9})*)\))?")
_SHORT = re.compile(r"(?P<name>[a-z]+):(?P<sizes>\d{1,9}(x\d{1,9})*)")


def scheme_from_text(text: str) -> Scheme:
    """The scheme that a text names; the inverse of `str(scheme)`.

    Raises:
        SchemeError: the text is neither form, or names no scheme, or not that scheme's sizes.
    """
    text = text.strip().replace(" ", "")
    match = _LONG.fullmatch(text) or _SHORT.fullmatch(text)
    kind = SCHEMES.get(match["name"]) if match else None
    if match is None or kind is None:
        raise SchemeError(f"{text!r} names no scheme; known are {_known()}.")
    names = [item.name for item in fields(kind)]
    needed = {item.name for item in fields(kind) if item.default is MISSING}
    given = _sizes(match["sizes"] or "", names)
    found = [name for name, _ in given]
    if len(set(found)) != len(found) or not needed <= set(found) <= set(names):
        raise SchemeError(f"{text!r} does not give the sizes of {_form(kind)}.")
    return kind(**{name: int(size) for name, size in given})


def _sizes(text: str, names: list[str]) -> list[tuple[str, str]]:
    """(name, digits) of `gf=8,gc=4`, or of `8x4` by the order of `names` ("" past its end)."""
    if "=" in text or not text:
        return [
            (name, size) for name, _, size in (p.partition("=") for p in text.split(",")) if name
        ]
    sizes = text.split("x")
    return list(zip(names + [""] * len(sizes), sizes, strict=False))


def _form(kind: type[Scheme]) -> str:
    sizes = ",".join(
        f"{item.name}={'N' if item.default is MISSING else item.default}" for item in fields(kind)
    )
    return f"{kind.name}({sizes})" if sizes else kind.name


def _known() -> str:
    return ", ".join(_form(kind) for kind in SCHEMES.values())
