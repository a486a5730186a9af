"""Folder of the benchmarks' data, and how results name paths.

The folder is that of the environment variable ``FEATLIFT_DATA``, ``data`` by default. ``benchmarks/README.md`` lists what it holds.
"""

import os
import re
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("FEATLIFT_DATA", "data"))
MOBILENET = DATA / "weights" / "mobilenet_v2_tf2ptq_dequant.pth"
"""ImageNet weights of MobileNetV2."""

_ABSOLUTE_FOLDER = re.compile(r"(?<![^\s\"'=(\[,])/(?:[^\s/\"']+/)+")


def shorten_paths(value: Any) -> Any:
    """Return ``value`` (nested dictionaries and lists) with texts that name no folder of this machine.

    The data folder becomes ``DATA``, paths below the working directory become relative, and other absolute folders become ``OUT``.
    """
    if isinstance(value, dict):
        return {key: shorten_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shorten_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    for folder in (DATA.resolve(), DATA):
        value = re.sub(rf"(?<![\w./-]){re.escape(str(folder))}(?=/)", "DATA", value)
    return _ABSOLUTE_FOLDER.sub("OUT/", value.replace(f"{Path.cwd()}/", ""))
