"""Seeding of the random generators per step, so that a resumed run draws the same numbers as an uninterrupted one."""

import hashlib
import random

import numpy
import torch


def seed_everything(*key: object) -> int:
    """Seed Python's, NumPy's and PyTorch's global generators with a hash of ``key``; return the seed, in ``0 … 2⁶³ -
    1``.

    `featlift.training.fit` calls it before every step with (seed of the run, stage, step, rank), so samplers and
    dropout need no saved state. After a stage, trained or loaded, it is called with the stage's number of steps, so
    modules built afterwards are initialized equally in both cases.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    seed = int.from_bytes(digest[:8], "big") >> 1
    random.seed(seed)
    numpy.random.seed(seed % 2**32)  # noqa: NPY002 (third-party code draws from the global state)
    torch.manual_seed(seed)
    return seed
