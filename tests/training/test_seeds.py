import random

import numpy
import torch

from featlift.training import seed_everything


def draws(*key: object) -> tuple[float, float, float]:
    seed_everything(*key)
    return random.random(), numpy.random.rand(), torch.rand(1).item()  # noqa: NPY002 (the global state is what is tested)


def test_draws_are_a_function_of_the_key():
    first = draws(0, "train", 5, 0)
    draws(0, "train", 6, 0)
    assert draws(0, "train", 5, 0) == first


def test_every_part_of_the_key_matters():
    keys = [(0, "train", 5, 0), (1, "train", 5, 0), (0, "other", 5, 0), (0, "train", 6, 0), (0, "train", 5, 1)]
    results = [draws(*key) for key in keys]
    for generator in range(3):
        assert len({draw[generator] for draw in results}) == len(keys)


def test_seeds_fit_into_sixty_three_bits():
    assert all(0 <= seed_everything(k) < 2**63 for k in range(50))
