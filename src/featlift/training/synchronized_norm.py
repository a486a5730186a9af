"""Batch norm with statistics of the batches of all processes."""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from featlift.training.distributed import get_world_size


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm; in training, mean and variance are those of the batches of all processes together.

    ``torch.nn.SyncBatchNorm`` does the same on GPUs only. The state has the same names, so that weights can be loaded either way.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``; B may differ between processes. All processes have to call this, in the same order."""
        if not self.training or get_world_size() == 1:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalize(input.float()).to(input.dtype)

    def _normalize(self, x: Tensor) -> Tensor:
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        sums = all_reduce(torch.cat([x.sum((0, 2, 3)), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centered = x - mean[:, None, None]
        variance = all_reduce(centered.square().sum((0, 2, 3))) / count
        self._update(mean.detach(), (variance * count / (count - 1)).detach())
        scale = self.weight * (variance + self.eps).rsqrt()
        return centered * scale[:, None, None] + self.bias[:, None, None]

    def _update(self, mean: Tensor, variance: Tensor) -> None:
        """Update the statistics of evaluation, with the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = 0.1 if self.momentum is None else self.momentum
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def synchronize_batch_norm(module: nn.Module) -> None:
    """Synchronize every ``nn.BatchNorm2d`` in ``module``, in place: it becomes a `SynchronizedBatchNorm2d` with the same parameters."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SynchronizedBatchNorm2d
