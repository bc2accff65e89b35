"""Inputs of a Plan: what fits, and values drawn for a trial."""

from __future__ import annotations

import numpy as np

from refimpl.plan import Plan


class InputError(ValueError):
    """An input that the network does not take; the message names it and what is wanted."""


def indexed_rows(plan: Plan, name: str) -> int | None:
    """The rows of the smallest table that an input indexes; None where it indexes none."""
    tables = [s.inputs[1] for s in plan.steps if s.op == "embedding" and s.inputs[0] == name]
    return min((plan.places[table].shape[0] for table in tables), default=None)


def as_indices(plan: Plan, name: str, array: np.ndarray) -> np.ndarray:
    """An input that indexes embeddings, as int32.

    Raises:
        InputError: an index is no whole number, or no row of every table that it indexes.
    """
    rows = indexed_rows(plan, name)
    assert rows is not None, "inputs of type i32 index embeddings"
    found = np.asarray(array)
    whole = found.dtype.kind in "iuf" and bool(np.all(found == np.trunc(found)))
    if not whole or found.min() < 0 or found.max() >= rows:
        raise InputError(f"input {name!r} must hold whole numbers from 0 to {rows - 1}: indices")
    return np.ascontiguousarray(found, dtype=np.int32)


def random_inputs(plan: Plan, seed: int = 0) -> list[np.ndarray]:
    """Values for each input of the plan: normal ones, float32, or rows of the tables it indexes."""
    rng = np.random.default_rng(seed)
    return [_drawn(plan, name, rng) for name in plan.inputs]


def _drawn(plan: Plan, name: str, rng: np.random.Generator) -> np.ndarray:
    shape, rows = plan.places[name].shape, indexed_rows(plan, name)
    if rows is None:
        return rng.standard_normal(shape, np.float32)
    return rng.integers(rows, size=shape, dtype=np.int64)
