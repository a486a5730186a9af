"""Cost of EFPN's extension compared with images of twice the size: ``python benchmarks/efpn_cost.py``.

Multiply-adds are counted on meta tensors at the paper's 1408x1408; latencies are measured in interleaved rounds on a smaller image, since
only ratios matter. Backbone, pyramid and extension are included; heads, equal for all, are not. Results:
``benchmarks/results/efpn_cost.json``.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from run import collect_metadata, write_result
from torch import Tensor, nn

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.efpn import ExtendedExtractor
from featlift.detectors.extractor import Extractor
from featlift.detectors.sparse_level import INPUT_SCALES, extension_receptive_radius
from featlift.features import Features
from featlift.interpolators import build_interpolators
from featlift.profiling import count_macs, count_parameters, measure_latencies
from featlift.pyramids.efpn import ExtendedLevel
from featlift.pyramids.texture_transfers import texture_transfer

IMAGE_SIZE, CHANNELS = 1408, 256
BACKBONES = {"R50": "resnet50", "X101-32x8d": "resnext101_32x8d"}
TRANSFERS = {
    "ftt-512": "authors' width 512",
    "ftt-256": "width 256",
    "ftt": "width 128 (the default)",
    "ftt-paper": "paper-literal",
    "espcn": "ESPCN",
    "nearest": "nearest (w/o FTT)",
}
TILE_SIZE, TILE_COUNTS = 16, (1, 5, 20)
DOUBLE_SIZE = "FPN, 2x image"
Calls = dict[str, Callable[[], Any]]


def extractor(backbone: str) -> Extractor:
    """Build an FPN of 256 channels with nearest interpolation."""
    interpolators = build_interpolators("nearest", CHANNELS, 3)
    return detectors.extractor("faster-rcnn", Backbone(backbone), interpolators, CHANNELS).eval()


def extended(F: Extractor, name: str) -> ExtendedExtractor:
    """Add an extension with the texture transfer ``name`` to F."""
    device = next(F.parameters()).device
    transfer = texture_transfer(name, CHANNELS)
    return ExtendedExtractor(F, ExtendedLevel(256, CHANNELS, transfer).to(device)).eval()


def build_calls(F: Extractor, image: Tensor, larger: Tensor) -> Calls:
    """Return the calls of FPN on the image and on the larger one, and of EFPN on the image, by name."""

    def dense_call(E: ExtendedExtractor) -> Callable[[], Features]:
        return lambda: E.extended_levels(E(image))

    calls: Calls = {"FPN": lambda: F(image), DOUBLE_SIZE: lambda: F(larger)}
    return calls | {f"EFPN, {title}": dense_call(extended(F, name)) for name, title in TRANSFERS.items()}


def count_tera_macs(backbone: str) -> dict[str, float]:
    """Count the tera-multiply-adds at 1408x1408; for the default transfer also with the given numbers of tiles of 128 px."""
    F = extractor(backbone).to("meta")
    images = (torch.rand(1, 3, size, size, device="meta") for size in (IMAGE_SIZE, 2 * IMAGE_SIZE))
    calls = build_calls(F, *images)
    tera = {name: count_macs(call) / 1e12 for name, call in calls.items()}
    tile_size = TILE_SIZE + 2 * receptive_radius()
    E = extended(F, "ftt")
    for count in TILE_COUNTS:
        stem = count_macs(lambda: E.backbone.stem(torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE, device="meta"))) / 1e12  # type: ignore[operator]
        tiles = count_macs(lambda count=count: E.extended_levels(tile_inputs(count, tile_size))) / 1e12
        tera[f"EFPN, width 128, {count} tile{'s' * (count > 1)}"] = tera["FPN"] + stem + tiles
    return tera


def tile_inputs(count: int, tile_size: int) -> Features:
    """Return meta inputs of the extension for ``count`` tiles of ``tile_size`` cells of stride 8."""
    channels = {"inner3": CHANNELS, "inner2": CHANNELS, "c1": 64}
    return {
        name: torch.rand(count, channels[name], k * tile_size, k * tile_size, device="meta")
        for name, k in INPUT_SCALES.items()
    }


def receptive_radius() -> int:
    """Return the receptive radius of the default extension on a ResNet-50, in cells of stride 8."""
    E = extended(extractor("resnet50"), "ftt")
    channels = {"inner3": CHANNELS, "inner2": CHANNELS, "c1": 64}
    return extension_receptive_radius(
        E.extended_levels, {name: torch.zeros(1, count, 1, 1) for name, count in channels.items()}
    )


def measure_ms(image_size: int, rounds: int) -> dict[str, float]:
    """Measure the ms of each call on a ResNet-50 and an image of ``image_size`` px, in interleaved rounds."""
    torch.manual_seed(0)
    image, larger = torch.rand(1, 3, image_size, image_size), torch.rand(1, 3, 2 * image_size, 2 * image_size)
    with torch.no_grad():
        calls = build_calls(extractor("resnet50"), image, larger)
        latencies = measure_latencies(calls, rounds, warmup=1)
    return {name: 1e3 * latency.median for name, latency in latencies.items()}


def build_table(
    tera: Mapping[str, Mapping[str, float]], ms: Mapping[str, float], image_size: int
) -> list[dict[str, Any]]:
    """Build one row per call: multiply-adds and ms, and their increase over FPN relative to that of the 2x image."""
    rows = []
    for name in tera["R50"]:
        row: dict[str, Any] = {"": name, "extension, parameters": extension_parameters(name)}
        for backbone, tera_macs in tera.items():
            row[f"{backbone}, TMAC at {IMAGE_SIZE}"] = round(tera_macs[name], 2)
            row[f"{backbone}, share of 2x's extra"] = relative_increase(tera_macs, name)
        if name in ms:
            row |= {f"R50, ms at {image_size}": round(ms[name]), "ms, share of 2x's extra": relative_increase(ms, name)}
        rows.append(row)
    caption = "Backbone, pyramid and extension; 2x's extra is the additional cost of an image of twice the size"
    return [{"caption": caption, "rows": rows}]


def relative_increase(costs: Mapping[str, float], name: str) -> float:
    """Return the increase of ``name`` over FPN relative to that of the 2x image."""
    return round((costs[name] - costs["FPN"]) / (costs[DOUBLE_SIZE] - costs["FPN"]), 2)


def extension_parameters(name: str) -> int | None:
    """Return the number of parameters of the extension; None for FPN."""
    transfer = next((key for key, title in TRANSFERS.items() if name.startswith(f"EFPN, {title}")), "ftt")
    if not name.startswith("EFPN"):
        return None
    with torch.device("meta"):
        return count_parameters(nn.ModuleList([ExtendedLevel(256, CHANNELS, texture_transfer(transfer, CHANNELS))]))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=192, help="Side of the image for latencies in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="Timing rounds")
    args = parser.parse_args()
    command = f"python benchmarks/efpn_cost.py --image-size {args.image_size} --rounds {args.rounds}"
    metadata = collect_metadata(torch.device("cpu"), command)
    tera = {title: count_tera_macs(name) for title, name in BACKBONES.items()}
    table = build_table(tera, measure_ms(args.image_size, args.rounds), args.image_size)
    print(write_result("efpn_cost", table, metadata))


if __name__ == "__main__":
    main()
