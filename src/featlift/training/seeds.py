"""Random draws that are a function of the step, so that a resumed run draws what the unbroken one would have drawn."""

import hashlib
import random

import numpy
import torch


def seed_everything(*key: object) -> int:
    """Seed Python's, NumPy's and PyTorch's global generators with a hash of ``key``; returns the seed, in ``0 … 2⁶³ -
    1``.

    `featlift.training.fit` calls it before every step with (seed of the run, stage, step, rank): samplers and dropout
    then need no saved state. After a stage, finished now or long ago, it is called with the stage's last step, so that
    what is built next is built alike.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    seed = int.from_bytes(digest[:8], "big") >> 1
    random.seed(seed)
    numpy.random.seed(seed % 2**32)  # noqa: NPY002 (the global state is where other people's code draws from)
    torch.manual_seed(seed)
    return seed
