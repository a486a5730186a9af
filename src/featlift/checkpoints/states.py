"""Weight files of any source: reading, comparison with a module's tensors, and loading with a report."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from featlift.checkpoints.damage import ERRORS

WRAPPER_KEYS = ("model", "state_dict", "model_state_dict", "ema_state_dict", "params_ema", "params")
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
MAX_ROWS = 12


@dataclass(frozen=True)
class LoadReport:
    """Comparison of the tensors of a file and of a module by name; `str` returns a table.

    Attributes:
        matched: Names in both, with equal shapes.
        missing: Names only in the module.
        unexpected: Names only in the file.
        mismatched: Names in both with different shapes → (shape in the file, shape in the module).
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, tuple[list[int], list[int]]]

    @property
    def is_complete(self) -> bool:
        """Return whether file and module have the same names and shapes."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [f"{name}  file {source}, module {target}" for name, (source, target) in self.mismatched.items()]
        rows = (
            _format_rows("other shape", shapes)
            + _format_rows("missing", self.missing)
            + _format_rows("unexpected", self.unexpected)
        )
        return "\n".join([f"{len(self.matched)} tensors match", *rows])


def _format_rows(title: str, names: list[str]) -> list[str]:
    rows = [f"  {title:<12} {name}" for name in names[:MAX_ROWS]]
    return [*rows, f"  {title:<12} … and {len(names) - MAX_ROWS} more"] if len(names) > MAX_ROWS else rows


def unique_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of ``module`` by name; a shared tensor only under its first name."""
    state: dict[str, Tensor] = {}
    ids: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in ids:
            state[name] = tensor.detach()
        ids.add(id(tensor))
    return state


def compare_states(state: Mapping[str, Tensor], module: nn.Module) -> LoadReport:
    """Compare ``state`` with the tensors of ``module``."""
    unique, tensors = unique_state_dict(module), module.state_dict()
    shapes = {name: (list(state[name].shape), list(t.shape)) for name, t in tensors.items() if name in state}
    return LoadReport(
        matched=[name for name, (source, target) in shapes.items() if source == target],
        missing=[name for name in unique if name not in state],
        unexpected=[name for name in state if name not in tensors],
        mismatched={name: (source, target) for name, (source, target) in shapes.items() if source != target},
    )


def copy_matching(module: nn.Module, state: Mapping[str, Tensor], source: object, strict: bool = True) -> LoadReport:
    """Copy the matching tensors of ``state`` into ``module``; ``source`` names their origin in the error message.

    Raises:
        ValueError: If no tensor matches or, with ``strict``, not all match; the module is not changed.
    """
    report = compare_states(state, module)
    if not report.is_complete and (strict or not report.matched):
        raise ValueError(f"{source} does not fit {type(module).__name__}: {report}")
    module.load_state_dict({name: state[name] for name in report.matched}, strict=False)
    return report


def load_state_file(module: nn.Module, path: str | Path, strict: bool = True) -> LoadReport:
    """Load a weight file (see `read_state_dict`) into ``module``; returns a report of all tensors.

    ``strict=False`` loads the matching tensors only; print the report to see the others.

    Raises:
        ValueError: If no tensor matches or, with ``strict``, a tensor is missing, unexpected or of another shape; all are listed.
    """
    return copy_matching(module, read_state_dict(path), path, strict)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a safetensors or PyTorch file to the CPU.

    Pickles are read with ``weights_only=True``, which executes no code of the file. Wrapper keys ("model", "state_dict", …) and the
    prefixes of DistributedDataParallel and torch.compile are removed.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, contains Python objects other than tensors and plain values, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; nothing is downloaded automatically.")
    state = _unwrap_state(_read_file(path))
    if not state:
        raise ValueError(f"{path} holds no named tensors, also not below {', '.join(WRAPPER_KEYS)}.")
    return state


def _read_file(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was rejected: it is not a PyTorch file, or contains Python objects other than tensors, and reading those "
            f"could execute any code. If you trust its source, open it with torch.load(…, weights_only=False) yourself and "
            f"save only its state dict. PyTorch reports: {_first_line(error)}"
        ) from error
    except ERRORS as error:
        raise ValueError(f"{path} is damaged or not a checkpoint: {_first_line(error)}") from error


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
