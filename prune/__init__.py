"""How a network gets thin: masks found and kept on torch modules.

import prune
from refimpl.schemes import KGS

prune.apply(net, {"conv2": (KGS(8, 4), 0.3), "conv3": (KGS(8, 4), 0.25)})
prune.train(net, batches, optimizer, teacher=prune.Teacher(dense))
print(prune.macs(net, example))
prune.remove(net)
"""

from prune.macs import LayerMacs, MacReport, macs, uniform_keep
from prune.magnitude import apply, gradual_keep
from prune.masking import Mask, PruneError, load_state, masks, prunable, remove, set_masks
from prune.retrain import Teacher, accuracy, train

__all__ = [
    "LayerMacs",
    "MacReport",
    "Mask",
    "PruneError",
    "Teacher",
    "accuracy",
    "apply",
    "gradual_keep",
    "load_state",
    "macs",
    "masks",
    "prunable",
    "remove",
    "set_masks",
    "train",
    "uniform_keep",
]
