"""A network measured beside the peers, dense and pruned."""

from __future__ import annotations

from collections.abc import Sequence

from bench.contest import Contest, compiled, contest, target_of
from bench.errors import BenchError
from bench.networks.graphs import NETWORKS, pruned
from refimpl.schemes import Scheme, Scope, scheme_from_text


def bench_network(
    name: str,
    ratios: str,
    scheme: str | Scheme,
    *,
    device: str = "host",
    target: str | None = None,
    peers: Sequence[str] | None = None,
    rounds: int = 9,
    scope: Scope | None = None,
    seed: int = 0,
) -> Contest:
    """Measure a network of `NETWORKS`, dense and pruned, in one run with the peers.

    Args:
        name: of the network.
        ratios: a name among those known for it.
        scheme: of all pruned layers, in the grammar of `refimpl.schemes`.
        device, target, peers, rounds, scope, seed: as in `bench.layer.bench_layer`.

    Raises:
        BenchError, SchemeError, TargetError, PlanError, DeviceError: what cannot be done.
    """
    if name not in NETWORKS:
        raise BenchError(f"no network is called {name!r}; known are {', '.join(NETWORKS)}")
    make, known = NETWORKS[name]
    if ratios not in known:
        raise BenchError(f"{name} has no ratios {ratios!r}; known are {', '.join(known)}")
    chosen = scheme_from_text(scheme) if isinstance(scheme, str) else scheme
    dense = make(seed)
    graphs = {
        "dense": dense,
        "pruned": pruned(dense, known[ratios], chosen, scope=scope, seed=seed),
    }
    variants = compiled(graphs, target or target_of(device))
    return contest(variants, device=device, peers=peers, rounds=rounds, seed=seed)
