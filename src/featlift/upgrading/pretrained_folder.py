"""Read the upgrade from a folder that Hugging Face's ``save_pretrained`` wrote for an upgraded model."""

import json
from pathlib import Path

from torch import Tensor

from featlift.checkpoints.tensors import read_tensors
from featlift.upgrading.state import CONFIG_ATTRIBUTE


def read_pretrained_folder(folder: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the settings of the upgrade from ``config.json`` and the added tensors from the safetensors files in ``folder``.

    Raises:
        ValueError: If ``folder`` has no such configuration, or no safetensors file.
    """
    config = Path(folder) / "config.json"
    settings = json.loads(config.read_text()).get(CONFIG_ATTRIBUTE) if config.is_file() else None
    if not settings:
        raise ValueError(
            f"{folder} contains no upgraded model: its config.json has no entry '{CONFIG_ATTRIBUTE}'. Pass a folder written by "
            "save_pretrained of an upgraded model, or a file written by save_delta."
        )
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no safetensors file; save the model with safe_serialization=True.")
    tensors = {name: x for file in files for name, x in read_tensors(file)[0].items() if "added" in name.split(".")}
    return settings, tensors
