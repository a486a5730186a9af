"""Disk cache for the features of a frozen extractor: each image is processed once, across epochs and runs."""

from pathlib import Path

import torch
from torch import Tensor, nn

from featlift.checkpoints.fingerprint import module_fingerprint, tensors_fingerprint
from featlift.checkpoints.tensors import read_tensors, write_tensors
from featlift.features import Features
from featlift.training.learner import not_compiled

GIGABYTE = 10**9


class CachedExtractor:
    """Replacement of a frozen extractor that reads the maps of known images from disk.

    Images are identified by their pixels, padding included, and the extractor by its weights, so the cache needs no invalidation. The maps
    of an image are one file, written atomically: interrupted runs continue with the existing files, and several processes can share a
    folder. Augmented images are separate entries: flips double the disk space, random sizes multiply it.

    Args:
        extractor: Frozen extractor in evaluation mode, with the attribute ``mean``.
        folder: Cache folder, shared by all extractors; each uses a subfolder named by its fingerprint.
        max_gigabytes: Maximum disk space of this extractor's maps in 10⁹ bytes; maps that exceed it are computed each time.
    """

    def __init__(self, extractor: nn.Module, folder: str | Path, max_gigabytes: float = 50.0):
        self.extractor = extractor
        self.folder = Path(folder) / module_fingerprint(extractor)
        self.free_bytes = int(max_gigabytes * GIGABYTE) - sum(
            file.stat().st_size for file in self.folder.glob("*.safetensors")
        )

    @property
    def mean(self) -> Tensor:
        """The extractor's padding color ``[1, 3, 1, 1]``."""
        return self.extractor.mean  # type: ignore[return-value]

    @not_compiled
    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → the extractor's maps ``[B, C, h, w]`` by level, without gradients."""
        files = [self.folder / f"{_image_key(image)}.safetensors" for image in images]
        missing = [i for i, file in enumerate(files) if not file.is_file()]
        computed: Features = self.extractor(images[missing]) if missing else {}
        new_maps = {i: {level: x[k] for level, x in computed.items()} for k, i in enumerate(missing)}
        for i, maps in new_maps.items():
            self._store(files[i], maps)
        maps_per_image = [new_maps[i] if i in new_maps else read_tensors(file)[0] for i, file in enumerate(files)]
        first = maps_per_image[0]
        levels = sorted(first, key=lambda level: -first[level].shape[-1] * first[level].shape[-2])
        return {
            level: torch.stack([maps[level].to(images.device) for maps in maps_per_image])
            for level in computed or levels
        }

    def _store(self, file: Path, maps: Features) -> None:
        size = sum(x.numel() * x.element_size() for x in maps.values())
        if size <= self.free_bytes:
            write_tensors(file, maps)
            self.free_bytes -= size


def _image_key(image: Tensor) -> str:
    """Return a hash of the pixels and of the precision of the forward pass."""
    device = image.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else image.dtype
    return tensors_fingerprint({"image": image}, str(precision))[:32]
