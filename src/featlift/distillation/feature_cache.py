"""What a frozen network said of a picture, kept on disk: it looks at each picture once, however often it is shown, in whatever run."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from featlift.checkpoints.tensors import read_tensors, write_tensors
from featlift.features import Features

GIGABYTE = 10**9


class CachedExtractor:
    """In the place of a frozen extractor: the same maps, taken from disk where the same picture was seen before.

    A picture is known by its pixels, padding included, and the extractor by its weights, so nothing has to be told when either changes.
    Each picture's maps are a file of their own, whole or not there: a run that was stopped goes on with what there is, and several
    processes may share a folder. Augmented pictures are pictures of their own: mirrored ones double the space, random sizes multiply it.

    Args:
        extractor: frozen, in evaluation mode; has ``mean`` as extractors do.
        folder: one for many extractors; each has its own inside, named by its fingerprint.
        max_gigabytes: 10⁹ bytes that the maps of this extractor may take; what comes after is computed each time.
    """

    def __init__(self, extractor: nn.Module, folder: str | Path, max_gigabytes: float = 50.0):
        self.extractor = extractor
        self.folder = Path(folder) / extractor_fingerprint(extractor)
        self.free_bytes = int(max_gigabytes * GIGABYTE) - sum(
            file.stat().st_size for file in self.folder.glob("*.safetensors")
        )

    @property
    def mean(self) -> Tensor:
        """The color ``[1, 3, 1, 1]`` that pads pictures, the extractor's."""
        return self.extractor.mean  # type: ignore[return-value]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → the extractor's maps ``[B, C, h, w]`` of each level, without a graph."""
        files = [self.folder / f"{_image_key(image)}.safetensors" for image in images]
        new = [i for i, file in enumerate(files) if not file.is_file()]
        fresh: Features = self.extractor(images[new]) if new else {}
        made = {i: {level: x[k] for level, x in fresh.items()} for k, i in enumerate(new)}
        for i, maps in made.items():
            self._store(files[i], maps)
        each = [made[i] if i in made else read_tensors(file)[0] for i, file in enumerate(files)]
        levels = sorted(each[0], key=lambda level: -each[0][level].shape[-1] * each[0][level].shape[-2])
        return {level: torch.stack([maps[level].to(images.device) for maps in each]) for level in fresh or levels}

    def _store(self, file: Path, maps: Features) -> None:
        size = sum(x.numel() * x.element_size() for x in maps.values())
        if size <= self.free_bytes:
            write_tensors(file, maps)
            self.free_bytes -= size


def extractor_fingerprint(network: nn.Module) -> str:
    """16 letters that change with the layers, their options, or any weight of ``network``."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_tensor_bytes(tensor))
    return digest.hexdigest()[:16]


def _image_key(image: Tensor) -> str:
    """Of a picture, and of the precision in which it is looked at."""
    kind = image.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else image.dtype
    return hashlib.sha256(f"{tuple(image.shape)} {precision}".encode() + _tensor_bytes(image)).hexdigest()[:32]


def _tensor_bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
