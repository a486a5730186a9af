"""Weight files of backbones, from timm or other libraries, and the error of a failed download."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from featlift.checkpoints.damage import explain_damage


@contextmanager
def explain_failed_download(weights: str, remedy: str) -> Iterator[None]:
    """Turn a failed download in the body into an error that names the ``weights`` and the ``remedy``, one sentence each.

    Raises:
        OSError: If the body raises an error of the network or of the file system.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in ("httpx", "http"):
            raise
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split("\n")[0].split()) or type(cause).__name__
        raise OSError(f"{weights} could not be downloaded ({reason.rstrip('.')}). {remedy}") from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a local weight file into ``network``: by name, else by order.

    Other libraries store the same tensors in the same order under other names (torchvision's ``features.0.0.weight`` is timm's
    ``conv_stem.weight``). Tensors are then matched by order and must have equal shapes; further tensors of the file (a classifier) are
    ignored.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If neither names nor order match; the message names the first mismatch.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file '{path}'.")
    with explain_damage(path, "Give a state dict as safetensors, or as saved by torch.save."):
        tensors = _read_state_dict(path)
    required = {name: x for name, x in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    named = {name: tensors[name] for name, x in required.items() if name in tensors and tensors[name].shape == x.shape}
    network.load_state_dict(
        named if len(named) == len(required) else _match_by_order(required, tensors, path), strict=False
    )


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("model", "state_dict"):
        content = content[wrapper] if isinstance(content, Mapping) and wrapper in content else content
    if not isinstance(content, Mapping):
        raise ValueError(f"'{path}' holds a {type(content).__name__}; expected a state dict, name → tensor.")
    return {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}


def _match_by_order(required: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    available = [(name, value) for name, value in tensors.items() if not name.endswith("num_batches_tracked")]
    for (name, tensor), (file_name, value) in zip(required.items(), available, strict=False):
        if tensor.shape != value.shape:
            raise ValueError(
                f"'{path}' does not fit: {_count_shared(required, tensors)} of {len(required)} tensors match by name; in order, "
                f"the network's '{name}' {tuple(tensor.shape)} corresponds to '{file_name}' {tuple(value.shape)}."
            )
    if len(available) < len(required):
        raise ValueError(f"'{path}' holds {len(available)} tensors; the network needs {len(required)}.")
    return {name: value for name, (_, value) in zip(required, available, strict=False)}


def _count_shared(names: Iterable[str], others: Mapping[str, Tensor]) -> int:
    return sum(name in others for name in names)
