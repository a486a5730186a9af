"""Named tensors of a file beside those of a module: what fits, what is missing, what is left over; and other people's
files.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

WRAPPER_KEYS = ("model", "state_dict", "model_state_dict", "ema_state_dict", "params_ema", "params")
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
MAX_ROWS = 12


@dataclass(frozen=True)
class LoadReport:
    """How the tensors of a file fit a module, by name. `str` gives a table.

    Attributes:
        matched: in both, with one shape.
        missing: in the module only.
        unexpected: in the file only.
        mismatched: in both; name → (shape in the file, shape in the module).
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, tuple[list[int], list[int]]]

    @property
    def is_complete(self) -> bool:
        """Whether file and module have the same names and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [f"{name}  file {there}, module {here}" for name, (there, here) in self.mismatched.items()]
        rows = (
            _format_rows("other shape", shapes)
            + _format_rows("missing", self.missing)
            + _format_rows("unexpected", self.unexpected)
        )
        return "\n".join([f"{len(self.matched)} tensors fit", *rows])


def _format_rows(title: str, names: list[str]) -> list[str]:
    shown = [f"  {title:<12} {name}" for name in names[:MAX_ROWS]]
    return [*shown, f"  {title:<12} … and {len(names) - MAX_ROWS} more"] if len(names) > MAX_ROWS else shown


def unique_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``module`` by name; one that has several names under its first."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            state[name] = tensor.detach()
        seen.add(id(tensor))
    return state


def compare_states(state: Mapping[str, Tensor], module: nn.Module) -> LoadReport:
    """How ``state`` fits ``module``."""
    own, every = unique_state_dict(module), module.state_dict()
    shapes = {name: (list(state[name].shape), list(t.shape)) for name, t in every.items() if name in state}
    return LoadReport(
        matched=[name for name, (there, here) in shapes.items() if there == here],
        missing=[name for name in own if name not in state],
        unexpected=[name for name in state if name not in every],
        mismatched={name: (there, here) for name, (there, here) in shapes.items() if there != here},
    )


def copy_matching(module: nn.Module, state: Mapping[str, Tensor], source: object, strict: bool = True) -> LoadReport:
    """Copy the tensors of ``state`` that fit into ``module``.

    Raises:
        ValueError: if none fits or, with ``strict``, if not all do; then the module is as it was.
    """
    fit = compare_states(state, module)
    if not fit.is_complete and (strict or not fit.matched):
        raise ValueError(f"{source} does not fit {type(module).__name__}: {fit}")
    module.load_state_dict({name: state[name] for name in fit.matched}, strict=False)
    return fit


def load_state_file(module: nn.Module, path: str | Path, strict: bool = True) -> LoadReport:
    """Copy the tensors of somebody's file (see `read_state`) into ``module``; returns how they fit.

    ``strict=False`` takes what fits and reports the rest: print the result.

    Raises:
        ValueError: if nothing fits or, with ``strict``, a tensor is missing, left over, or of another shape; all are
            listed.
    """
    return copy_matching(module, read_state_dict(path), path, strict)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors or PyTorch file, on the CPU.

    A pickle is only read with ``weights_only=True``, which runs no code of the file. Wrappings ("model",
    "state_dict") and the prefixes of DistributedDataParallel and torch.compile are taken off.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, holds more than tensors and plain values, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; nothing is downloaded unasked.")
    state = _unwrap_state(_read_file(path))
    if not state:
        raise ValueError(f"{path} holds no named tensors (looked at the top and below {', '.join(WRAPPER_KEYS)}).")
    return state


def _read_file(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was refused: it is no PyTorch file, or holds Python objects besides tensors, and reading those could "
            f"run any code. If you trust where it came from, open it with torch.load(…, weights_only=False) yourself and "
            f"save its state dict alone. PyTorch says: {_first_line(error)}"
        ) from error
    except (SafetensorError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _unwrap_state(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for wrapper in WRAPPER_KEYS:
        if isinstance(content.get(wrapper), Mapping):
            return _unwrap_state(content[wrapper])
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in WRAPPER_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
