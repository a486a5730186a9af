"""Errors of PyTorch in a training step, with what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

_ONE_VALUE = "Expected more than 1 value per channel when training"


@contextmanager
def explain_step_errors() -> Iterator[None]:
    """Context of a training step in which batch normalization over a single value per channel is explained.

    Raises:
        ValueError: If a batch-norm layer in training gets one value per channel: a map of 1x1 cells in a batch of one image.
    """
    try:
        yield
    except ValueError as error:
        if _ONE_VALUE not in str(error):
            raise
        raise ValueError(
            f"Batch normalization needs more than one value per channel, and got one ({str(error).partition(', ')[2]}): the batch has one "
            "image, whose coarsest map has one cell. Use more images per step (--data.batch-size), larger images, or no batch "
            "normalization: --model.norm frozen or group for the backbone, another --model.interpolator than srf for the pyramid."
        ) from error
