"""``featlift sr``: a folder of pictures, each enlarged by a super-resolution network."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from featlift.data.image_folder import list_images
from featlift.data.image_io import read_image
from featlift.deployment.sr_inference import InferenceNetwork, fastest_inference_network
from featlift.image_sr import SUPER_RESOLVERS, super_resolver
from featlift.image_sr.checkpoint import load_super_resolver
from featlift.image_sr.spandrel_models import load_spandrel
from featlift.image_sr.tiling import TiledSuperResolver

PARAMETER_FREE = ("bicubic",)
UPSCALE_PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class UpscaleOptions:
    """How pictures are enlarged.

    Attributes:
        model: a run folder or file of ours, a file that spandrel knows (ESRGAN, SwinIR, HAT …), or "bicubic".
        scale: for "bicubic"; the others know theirs.
        tile_size: windows of so many px of the small picture, for large ones; 0 takes every picture whole.
        margin: px read around each window (`featlift.image_sr.tiling`).
        batch_size: windows at a time.
        precision: "fp32", "bf16", "fp16", or "auto": the fastest on this machine that is not visibly worse, by measuring.
        device: "cpu", "cuda", ….
        quality: of JPEG and WebP files that are written, 1 to 100.
    """

    model: str = "bicubic"
    scale: int = 4
    tile_size: int = 192
    margin: int = 16
    batch_size: int = 4
    precision: str = "auto"
    device: str = "cpu"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.precision not in UPSCALE_PRECISIONS:
            raise ValueError(f"Unknown precision '{self.precision}'; choose one of {', '.join(UPSCALE_PRECISIONS)}.")


def upscale_images(images: str | Path, out: str | Path, options: UpscaleOptions | None = None) -> list[Path]:
    """Enlarge ``images``, a file or a folder, into the folder ``out``; names, sub-folders and formats are kept.

    Gray becomes RGB, transparency becomes white, 16 bits become 8. A file that is in ``out`` already is left as it is, so the same
    command goes on where it was stopped. Returns the files in ``out``.

    Raises:
        FileNotFoundError: without pictures.
        ValueError: if ``out`` is the folder of the pictures, or the network cannot be used.
        BrokenPicture: naming a file that cannot be read.
    """
    options, source = options or UpscaleOptions(), Path(images)
    root, files = (source.parent, [source]) if source.is_file() else (source, list_images(source))
    if Path(out).resolve() == root.resolve():
        raise ValueError(f"{out} is where the pictures are; choose another folder, or they would be overwritten.")
    targets = {file: Path(out) / file.relative_to(root) for file in files}
    waiting = [file for file, target in targets.items() if not target.exists()]
    if waiting:
        network = prepare_super_resolver(
            load_super_resolver_by_name(options.model, options.scale), options, read_image(waiting[0])
        )
        for file in _with_progress(waiting):
            _write_image(_upscale_image(network, read_image(file), options.device), targets[file], options.quality)
    return list(targets.values())


def load_super_resolver_by_name(name: str, scale: int = 4) -> nn.Module:
    """The network of a run folder or file of ours, of a foreign file, or bicubic interpolation.

    Raises:
        ValueError: if it is none of these; a bare name such as "edsr" has no weights.
    """
    path = Path(name)
    if name in PARAMETER_FREE:
        return super_resolver(name, scale)
    if path.is_dir() or path.suffix == ".safetensors":
        return load_super_resolver(path)
    if path.is_file():
        return load_spandrel(path).eval()
    untrained = f"'{name}' has no weights by itself. " if name in SUPER_RESOLVERS else f"There is no file '{name}'. "
    raise ValueError(untrained + "Name the run folder of a training, a file of weights, or bicubic.")


def prepare_super_resolver(super_resolver: nn.Module, options: UpscaleOptions, example: Tensor) -> nn.Module:
    """``super_resolver`` as it will run: on its device, in tiles, in the layout and precision asked for, or the fastest on ``example``."""
    super_resolver = super_resolver.to(options.device)
    if options.precision == "auto":
        part = example[None, :, :96, :96].to(options.device)
        super_resolver = fastest_inference_network(super_resolver, part)
    else:
        super_resolver = InferenceNetwork(super_resolver, "channels-last", options.precision)
    return (
        TiledSuperResolver(super_resolver, options.tile_size, options.margin, options.batch_size)
        if options.tile_size
        else super_resolver
    )


@torch.no_grad()
def _upscale_image(super_resolver: nn.Module, image: Tensor, device: str) -> Tensor:
    """``[3, H, W]`` in 0…1 → ``[3, scale·H, scale·W]`` uint8."""
    return (super_resolver(image[None].to(device))[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def _write_image(pixels: Tensor, path: Path, quality: int) -> None:
    """As the format of ``path``, whole or not at all."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    kind = Image.registered_extensions()[path.suffix.lower()]
    options = {"quality": quality} if kind in ("JPEG", "WEBP") else {}
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(unfinished, kind, **options)
    unfinished.replace(path)


def _with_progress(files: list[Path]) -> Iterable[Path]:
    from rich.progress import track

    return track(files, description="enlarging")
