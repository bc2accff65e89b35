"""The networks of the comparison, with random weights, and how they are pruned.

`definitions` lists published architectures as torch modules, at any width; `prunings` says what
the papers prune of them; `measure` compares them.  Importing this package imports no torch.
"""

from bench.networks.graphs import DEMO_RATIOS, Ratios, demo, pruned

__all__ = ["DEMO_RATIOS", "Ratios", "demo", "pruned"]
