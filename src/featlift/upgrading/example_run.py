"""Run a network on example inputs: any form of arguments, evaluation mode, no gradients, a fixed random state."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from featlift.detectors.eval_mode import eval_mode

DEFAULT_IMAGE_SIZE = (256, 256)
"""(H, W) in pixels of the image used if no example inputs are given."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


def example_arguments(model: nn.Module, example_inputs: Any = None) -> Arguments:
    """Return the arguments with which ``model`` is called.

    Args:
        model: Network.
        example_inputs: A tuple of positional arguments; a dictionary of keyword arguments, such as the output of a Hugging Face processor
            (a dictionary without any name of a parameter is one positional argument, as for torchvision's FPN); anything else is one
            positional argument. None is an image of noise in 0…1, ``[1, 3, 256, 256]``.

    Raises:
        ValueError: If a dictionary of keyword arguments has names that ``model.forward`` does not accept.
    """
    if example_inputs is None:
        return (_noise_image(model),), {}
    if isinstance(example_inputs, Mapping):
        return _mapping_arguments(model, example_inputs)
    return (example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)), {}


@torch.no_grad()
def run_example(model: nn.Module, arguments: Arguments) -> Any:
    """Return the outputs of ``model``; the same random numbers in each call, and modes and the global random state are restored."""
    args, kwargs = arguments
    devices = {p.device.index for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices), eval_mode(model):
        torch.manual_seed(0)
        return model(*args, **kwargs)


@contextmanager
def small_default_image(model: nn.Module, example_inputs: Any) -> Iterator[None]:
    """Let torchvision's detectors keep the default example at its size, instead of enlarging it to 800 pixels."""
    modules = model.modules() if example_inputs is None else ()
    transforms: list[Any] = [m for m in modules if isinstance(m, GeneralizedRCNNTransform)]
    sizes = [(transform.min_size, transform.max_size) for transform in transforms]
    for transform in transforms:
        transform.min_size, transform.max_size = (min(DEFAULT_IMAGE_SIZE),), max(DEFAULT_IMAGE_SIZE)
    try:
        yield
    finally:
        for transform, (min_size, max_size) in zip(transforms, sizes, strict=True):
            transform.min_size, transform.max_size = min_size, max_size


def _mapping_arguments(model: nn.Module, values: Mapping[str, Any]) -> Arguments:
    parameters = inspect.signature(model.forward).parameters
    named = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not set(named) & set(values) and not (takes_any and not named):
        return (values,), {}
    unknown = [] if takes_any else [name for name in values if name not in named]
    if unknown:
        raise ValueError(
            f"{type(model).__name__}.forward does not accept {', '.join(unknown)}; it accepts {', '.join(named)}. "
            "Remove the other entries of example_inputs."
        )
    return (), dict(values)


def _noise_image(model: nn.Module) -> Tensor:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    noise = torch.rand(1, 3, *DEFAULT_IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    return noise.to(like.device, like.dtype)
