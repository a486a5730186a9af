"""Maps of the frozen network, computed once and stored in float16, channels last, so that a training step is cheap."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from yolox_network import SIDE, PlainPass, YOLOXNano, letterbox, run_plain_pass

from featlift.upgrading.extended_family import enlarge

Crop = tuple[int, int, int]
"""(top, left, side) in cells of 32 px."""
NamedImage = tuple[str, NDArray[np.uint8]]
"""File name, image ``[H, W, 3]`` (BGR)."""

INPUTS = {
    "reduce_conv1": (26, 64),
    "dark3": (52, 64),
    "c3_p3": (52, 64),
    "c3_n3": (26, 128),
    "lateral_conv0": (13, 128),
    "enlarged_dark3": (104, 64),
}
"""Map → (side, channels). Inputs of a student: maps of the plain pass, and dark3's of the enlarged image."""

TARGETS = {
    "enlarged_reduce_conv1": (52, 64),
    "enlarged_lateral_conv0": (26, 128),
    "enlarged_c3_p3": (104, 64),
    "enlarged_output": (104, 85),
}
"""Map → (side, channels) of the pass on the enlarged image; the last is the output of the finest head."""

MAPS = INPUTS | TARGETS
CELLS = 13
"""Cells of 32 px along a side of the image."""
SCALES = {name: side // CELLS for name, (side, _) in MAPS.items()}
"""Map → its positions along the side of one cell."""


@dataclass
class MapCache:
    """Stored maps: ``maps[name][i]`` is ``[side, side, channels]`` of image i."""

    maps: dict[str, NDArray[np.float16]]
    images: list[dict[str, Any]]
    """``file``, ``scale``, and ``extent``: rows and columns of the image with side 416 that are not padding."""

    def __len__(self) -> int:
        return len(self.images)

    def read(self, names: Sequence[str], index: int, crop: Crop | None = None) -> dict[str, Tensor]:
        """Return maps ``[1, C, h, w]`` of image ``index`` in float32, of the whole image or a crop."""
        return {name: crop_map(self.maps[name][index], SCALES[name], crop or (0, 0, CELLS))[None] for name in names}


def crop_map(values: NDArray[np.float16], scale: int, crop: Crop) -> Tensor:
    """Crop ``values [H, W, C]`` with ``scale`` positions per cell → ``[C, h, w]`` in float32."""
    top, left, side = crop
    part = values[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    return torch.from_numpy(part.astype(np.float32)).permute(2, 0, 1)


def open_cache(folder: Path) -> MapCache:
    """Open the maps of `fill_cache`, memory-mapped."""
    images = json.loads((folder / "images.json").read_text())
    stored = [name for name in MAPS if (folder / f"{name}.npy").exists()]
    return MapCache({name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in stored}, images)


@torch.no_grad()
def compute_maps(network: YOLOXNano, large: Tensor, plain: PlainPass) -> dict[str, Tensor]:
    """Return all `MAPS`, from the pass ``plain`` and the same image at twice the size, ``large [1, 3, 832, 832]`` in 0…255."""
    dark3 = network.compute_dark3(large)
    reduce_conv1, lateral_conv0 = network.compute_top_down(dark3)
    c3_p3 = network.compute_c3_p3(reduce_conv1, dark3)
    return {name: getattr(plain, name) for name in INPUTS if name != "enlarged_dark3"} | {
        "enlarged_dark3": dark3,
        "enlarged_reduce_conv1": reduce_conv1,
        "enlarged_lateral_conv0": lateral_conv0,
        "enlarged_c3_p3": c3_p3,
        "enlarged_output": network.compute_output(c3_p3),
    }


def fill_cache(
    network: YOLOXNano,
    folder: Path,
    names: Sequence[str],
    images: Iterator[NamedImage],
    num_images: int,
    native: bool = False,
) -> None:
    """Write the maps ``names`` of ``num_images`` images, and ``images.json``.

    The image at twice the size is the image of side 416 enlarged, or with ``native`` the original image letterboxed to 832 px.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: _create_array(folder / f"{name}.npy", num_images, *MAPS[name]) for name in names}
    entries = []
    for index, (file, image) in enumerate(images):
        tensor, scale = letterbox(image)
        tensor = tensor.contiguous(memory_format=torch.channels_last)
        large = letterbox(image, 2 * SIDE)[0] if native else enlarge(tensor)
        large = large.contiguous(memory_format=torch.channels_last)
        maps = compute_maps(network, large, run_plain_pass(network, tensor))
        for name, values in arrays.items():
            values[index] = maps[name][0].permute(1, 2, 0).numpy()
        entries.append({"file": file, "scale": scale, "extent": [int(side * scale) for side in image.shape[:2]]})
        if index % 100 == 0:
            print(f"{folder.name}: {index} of {num_images} images", flush=True)
    (folder / "images.json").write_text(json.dumps(entries))


def _create_array(path: Path, num_images: int, side: int, channels: int) -> NDArray[np.float16]:
    return np.lib.format.open_memmap(path, "w+", np.float16, (num_images, side, side, channels))


def read_images(files: Sequence[Path], augment: bool, seed: int = 0) -> Iterator[NamedImage]:
    """Yield all images, and with ``augment`` also a mirrored crop of each (its longer side divided by 1 to 1.6)."""
    import cv2

    rng = np.random.default_rng(seed)
    for file in files:
        yield file.name, cv2.imread(str(file))
    for file in files if augment else ():
        image = cv2.imread(str(file))
        height, width = image.shape[:2]
        side = int(max(height, width) / rng.uniform(1, 1.6))
        top, left = (int(rng.integers(0, max(1, length - side + 1))) for length in (height, width))
        yield file.name, np.ascontiguousarray(image[top : top + side, left : left + side][:, ::-1])
