"""The networks of the comparison: Graphs with random weights, and definitions in torch.

`graphs` holds what the comparison measures, with the papers' prune ratios; `definitions` lists
published architectures as torch modules, at any width.  Only the latter import torch.
"""

from bench.networks.graphs import C3D_RATIOS, DEMO_RATIOS, NETWORKS, Ratios, c3d, demo, pruned
from bench.networks.measure import bench_network

__all__ = [
    "C3D_RATIOS",
    "DEMO_RATIOS",
    "NETWORKS",
    "Ratios",
    "bench_network",
    "c3d",
    "demo",
    "pruned",
]
