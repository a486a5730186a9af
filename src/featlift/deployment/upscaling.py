"""``featlift upscale``: super-resolution of the images of a folder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from featlift.checkpoints.atomic import write_atomic
from featlift.data.image_files import read_image_files
from featlift.data.image_io import MAX_PIXELS, list_images
from featlift.deployment.sr_inference import InferenceNetwork, fastest_inference_network
from featlift.device import resolve_device
from featlift.image_sr import SUPER_RESOLVERS, super_resolver
from featlift.image_sr.checkpoint import load_super_resolver
from featlift.image_sr.official_weights import build_published_network
from featlift.image_sr.spandrel_models import load_spandrel
from featlift.image_sr.tiling import TiledSuperResolver
from featlift.registry import check_choice
from featlift.training.progress import track

PARAMETER_FREE = ("bicubic",)
UPSCALE_PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class UpscaleOptions:
    """Options of the upscaling of images.

    Attributes:
        model: Run folder or file of FeatLift, published weights of D-DBPN, SRCNN or VDSR, a file supported by spandrel (EDSR, RCAN,
            ESRGAN, SwinIR, HAT …), or "bicubic".
        scale: Scale factor of "bicubic", and of published SRCNN and VDSR; other models have a fixed scale.
        tile_size: Side of the tiles in pixels of the input image; 0 processes images as a whole.
        margin: Context in pixels around each tile (`featlift.image_sr.tiling`).
        batch_size: Number of tiles per batch.
        precision: "fp32", "bf16", "fp16", or "auto": the fastest on this machine without visible loss, by measurement.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        quality: Quality of written JPEG and WebP files, 1 to 100.
        skip_broken: Skip unreadable images with a warning instead of stopping.
        max_pixels: Maximum number of pixels of an image.
    """

    model: str = "bicubic"
    scale: int = 4
    tile_size: int = 192
    margin: int = 16
    batch_size: int = 4
    precision: str = "auto"
    device: str = "auto"
    quality: int = 95
    skip_broken: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_choice(self.precision, UPSCALE_PRECISIONS, "precision")


def upscale_images(images: str | Path, out: str | Path, options: UpscaleOptions | None = None) -> list[Path]:
    """Upscale ``images``, a file or a folder, into the folder ``out``; names, subfolders and formats are kept.

    Gray is converted to RGB, transparency to white, 16 bits to 8. Existing files in ``out`` are skipped, so that an interrupted command can
    be resumed. Returns the files in ``out``.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If ``out`` is the folder of the images, or the model cannot be used.
        ImageReadError: If a file cannot be read; the message names it.
    """
    options, source = options or UpscaleOptions(), Path(images)
    root, files = (source.parent, [source]) if source.is_file() else (source, list_images(source))
    if Path(out).resolve() == root.resolve():
        raise ValueError(f"{out} is the folder of the images, which would be overwritten; choose another folder.")
    targets = {file: Path(out) / file.relative_to(root) for file in files}
    missing = [file for file, target in targets.items() if not target.exists()]
    network = None
    for file, image in read_image_files(track(missing, "upscaling"), options.skip_broken, options.max_pixels):
        if network is None:
            resolver = load_super_resolver_by_name(options.model, options.scale)
            network = prepare_super_resolver(resolver, options, image)
        _write_image(_upscale_image(network, image, resolve_device(options.device)), targets[file], options.quality)
    return [target for target in targets.values() if target.exists()]


def load_super_resolver_by_name(name: str, scale: int = 4) -> nn.Module:
    """Load the network of a FeatLift run folder or file, of published weights (D-DBPN, SRCNN, VDSR, or by spandrel), or bicubic.

    Raises:
        ValueError: If ``name`` is none of these; a registry name such as "edsr" has no weights.
    """
    path = Path(name)
    if name in PARAMETER_FREE:
        return super_resolver(name, scale)
    if path.is_dir() or path.suffix == ".safetensors":
        return load_super_resolver(path)
    if path.is_file():
        return build_published_network(path, scale) or load_spandrel(path).eval()
    reason = (
        f"'{name}' is an architecture without weights." if name in SUPER_RESOLVERS else f"There is no file '{name}'."
    )
    raise ValueError(f"{reason} Give the run folder of a training, a file of weights, or bicubic.")


def prepare_super_resolver(super_resolver: nn.Module, options: UpscaleOptions, example: Tensor) -> nn.Module:
    """Return ``super_resolver`` on its device, tiled, in the configured precision or the fastest one on ``example``."""
    device = resolve_device(options.device)
    super_resolver = super_resolver.to(device)
    if options.precision == "auto":
        crop = example[None, :, :96, :96].to(device)
        super_resolver = fastest_inference_network(super_resolver, crop)
    else:
        super_resolver = InferenceNetwork(super_resolver, "channels-last", options.precision)
    return (
        TiledSuperResolver(super_resolver, options.tile_size, options.margin, options.batch_size)
        if options.tile_size
        else super_resolver
    )


@torch.no_grad()
def _upscale_image(super_resolver: nn.Module, image: Tensor, device: torch.device) -> Tensor:
    """Upscale ``[3, H, W]`` in 0…1 to ``[3, scale·H, scale·W]`` uint8."""
    return (super_resolver(image[None].to(device))[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def _write_image(pixels: Tensor, path: Path, quality: int) -> None:
    """Write ``pixels`` atomically in the format of the suffix of ``path``."""
    from PIL import Image

    image_format = Image.registered_extensions()[path.suffix.lower()]
    options = {"quality": quality} if image_format in ("JPEG", "WEBP") else {}
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    write_atomic(path, lambda unfinished: image.save(unfinished, image_format, **options))
