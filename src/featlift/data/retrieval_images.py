"""Random crops and splits of the image files of retrieval collections."""

import random
from collections.abc import Sequence
from pathlib import Path

from featlift.data.image_io import CropBox, read_image_sizes


def random_crop_box(file: Path, seed: int = 0) -> CropBox:
    """Random crop box with 70 to 90 % of the image's sides, deterministic in ``seed``."""
    rng, (height, width) = random.Random(seed), read_image_sizes(file)[0]
    scale = rng.uniform(0.7, 0.9)
    left, top = rng.uniform(0, 1 - scale) * width, rng.uniform(0, 1 - scale) * height
    return left, top, left + scale * width, top + scale * height


def split_image_files(files: Sequence[Path], num_train: int, seed: int = 0) -> tuple[list[Path], list[Path]]:
    """Random split ``(train, rest)``, the paper's protocol (Oxford 4,500 / 562, Paris 5,800 / 612).

    Views of a landmark then occur in both parts, and training images are database images. Training on one city and
    testing on the other avoids both leaks.

    Raises:
        ValueError: unless there are more than ``num_train`` ≥ 1 images.
    """
    if not 0 < num_train < len(files):
        raise ValueError(f"Cannot train on {num_train} of {len(files)} images and keep some for testing.")
    order = random.Random(seed).sample(range(len(files)), len(files))
    return [files[i] for i in sorted(order[:num_train])], [files[i] for i in sorted(order[num_train:])]
