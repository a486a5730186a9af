"""How anything here is trained: on plain PyTorch, by one process or by many, with the same file.

* `Descent` says how a module learns, `Learner` does it (gradients of its own parameters only, averaged over ranks).
* `Run` is the folder in which everything about one training is found; the same folder again means: go on.
* `fit` is the only loop.

This package is the only one that knows about devices, precision and ranks, and the only one that imports
``torch.distributed``.
"""

from featlift.training.distributed import ReplicatedStrategy, ShardedStrategy, shard_module
from featlift.training.learner import Learner
from featlift.training.loop import fit
from featlift.training.optimizer import OptimizerConfig
from featlift.training.run import Run
from featlift.training.seeds import seed_everything

__all__ = [
    "Learner",
    "OptimizerConfig",
    "ReplicatedStrategy",
    "Run",
    "ShardedStrategy",
    "fit",
    "seed_everything",
    "shard_module",
]
