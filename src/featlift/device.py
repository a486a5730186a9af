"""The device that a command runs on, or a module lies on."""

import os

import torch
from torch import nn


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``.

    Args:
        name: "auto" (a GPU if there is one, else the CPU), "cpu", "cuda" (under ``torchrun`` the GPU of the local rank), "cuda:1", ….

    Raises:
        ValueError: If the device does not exist.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cuda") and num_gpus:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % num_gpus)
    try:
        device = torch.device("cpu" if name == "auto" else name)
    except RuntimeError as error:
        raise ValueError(f"Unknown device '{name}'; use 'auto', 'cpu' or 'cuda'.") from error
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        raise ValueError(f"Device '{name}' is not available: PyTorch sees {num_gpus} GPUs; use 'auto' or 'cpu'.")
    return device


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the parameters of ``module``; the CPU if it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def synchronize_cuda() -> None:
    """Wait for all queued GPU work, so that a timer reads correctly; does nothing without CUDA."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
