"""Training on plain PyTorch, with the same code for one process and for many.

* `OptimizerConfig` configures the optimization of a module; `Learner` performs it (gradients of its own parameters
  only, averaged over ranks).
* `Run` is the folder of a training run; passing the same folder again resumes it.
* `fit` is the only training loop.

Only this package handles devices, precision and ranks, and only this package imports ``torch.distributed``.
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
