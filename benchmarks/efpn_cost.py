"""What EFPN's extension costs beside the picture at twice the size: ``python benchmarks/efpn_cost.py``.

Multiply-adds are counted without computing, at the paper's 1408x1408; times are measured in turns on a smaller picture, because only
their ratios matter. Backbone, pyramid and extension count, heads do not: they are the same for all. Kept as
``benchmarks/results/efpn_cost.json``.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from run import keep, made
from torch import Tensor, nn

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.efpn import ExtendedExtractor
from featlift.detectors.extractor import Extractor
from featlift.detectors.sparse_level import INPUT_SCALES, extension_receptive_radius
from featlift.evaluation.profiling import count_macs, count_parameters, measure_latencies
from featlift.features import Features
from featlift.interpolators import build_interpolators
from featlift.pyramids.efpn import ExtendedLevel, texture_transfer

SIDE, CHANNELS = 1408, 256
BACKBONES = {"R50": "resnet50", "X101-32x8d": "resnext101_32x8d"}
TRANSFERS = {
    "authors": "authors' width 512",
    "ftt-256": "width 256",
    "ftt": "width 128 (the default)",
    "paper-literal": "paper-literal",
    "espcn": "ESPCN",
    "nearest": "nearest (w/o FTT)",
}
TILE, TILES = 16, (1, 5, 20)
Calls = dict[str, Callable[[], Any]]


def extractor(backbone: str) -> Extractor:
    """An FPN of 256 channels with nearest interpolation."""
    below = Backbone(backbone)
    return detectors.extractor("faster-rcnn", below, build_interpolators("nearest", CHANNELS, 3), CHANNELS).eval()


def extended(F: Extractor, name: str) -> ExtendedExtractor:
    """F with the extension that ``name`` makes."""
    device = next(F.parameters()).device
    made = texture_transfer(name, CHANNELS)
    return ExtendedExtractor(F, ExtendedLevel(256, CHANNELS, made).to(device)).eval()


def everyone(F: Extractor, picture: Tensor, larger: Tensor) -> Calls:
    """FPN on the picture and on the larger one, and EFPN on the picture, by name."""

    def whole(E: ExtendedExtractor) -> Callable[[], Features]:
        return lambda: E.extended_levels(E(picture))

    calls: Calls = {"FPN": lambda: F(picture), "FPN, picture twice as large": lambda: F(larger)}
    return calls | {f"EFPN, {title}": whole(extended(F, name)) for name, title in TRANSFERS.items()}


def counted(backbone: str) -> dict[str, float]:
    """Tera-multiply-adds of each at 1408x1408; the default also in windows around so many tiles of 128 px."""
    F = extractor(backbone).to("meta")
    pictures = (torch.rand(1, 3, side, side, device="meta") for side in (SIDE, 2 * SIDE))
    calls = everyone(F, *pictures)
    found = {name: count_macs(call) / 1e12 for name, call in calls.items()}
    side = TILE + 2 * margin()
    E = extended(F, "ftt")
    for tiles in TILES:
        below = count_macs(lambda: E.backbone.stem(torch.rand(1, 3, SIDE, SIDE, device="meta"))) / 1e12  # type: ignore[operator]
        windows = count_macs(lambda tiles=tiles: E.extended_levels(window(tiles, side))) / 1e12
        found[f"EFPN, width 128, windows around {tiles} tile{'s' * (tiles > 1)}"] = found["FPN"] + below + windows
    return found


def window(count: int, side: int) -> Features:
    """What the extension gets of so many windows of ``side`` cells of stride 8, without values."""
    channels = {"inner3": CHANNELS, "inner2": CHANNELS, "c1": 64}
    return {
        name: torch.rand(count, channels[name], k * side, k * side, device="meta") for name, k in INPUT_SCALES.items()
    }


def margin() -> int:
    """How many cells of stride 8 the default extension reaches on a ResNet-50."""
    E = extended(extractor("resnet50"), "ftt")
    return extension_receptive_radius(
        E.extended_levels,
        {name: torch.zeros(1, c, 1, 1) for name, c in (("inner3", CHANNELS), ("inner2", CHANNELS), ("c1", 64))},
    )


def measured(side: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each on a ResNet-50 and a picture of ``side`` px, in turns."""
    torch.manual_seed(0)
    picture, larger = torch.rand(1, 3, side, side), torch.rand(1, 3, 2 * side, 2 * side)
    with torch.no_grad():
        times = measure_latencies(everyone(extractor("resnet50"), picture, larger), rounds, warmup=1)
    return {name: 1e3 * one.median for name, one in times.items()}


def table(
    tera: Mapping[str, Mapping[str, float]], milliseconds: Mapping[str, float], side: int
) -> list[dict[str, Any]]:
    """A row for each: multiply-adds and time, beside FPN's, and how much of what 2x adds is added."""
    rows, clock = [], milliseconds
    for name in tera["R50"]:
        row: dict[str, Any] = {"": name, "extension, parameters": size(name)}
        for backbone, found in tera.items():
            row[f"{backbone}, TMAC at {SIDE}"] = round(found[name], 2)
            row[f"{backbone}, share of 2x's extra"] = share(found, name)
        if name in clock:
            row |= {f"R50, ms at {side}": round(clock[name]), "ms, share of 2x's extra": share(clock, name)}
        rows.append(row)
    return [
        {"caption": "Backbone, pyramid and extension; 2x's extra is what a picture twice as large adds", "rows": rows}
    ]


def share(found: Mapping[str, float], name: str) -> float:
    """What ``name`` adds to FPN, over what the larger picture adds."""
    return round((found[name] - found["FPN"]) / (found["FPN, picture twice as large"] - found["FPN"]), 2)


def size(name: str) -> int | None:
    """Parameters of the extension; None for FPN."""
    made = next((key for key, title in TRANSFERS.items() if name.startswith(f"EFPN, {title}")), "ftt")
    if not name.startswith("EFPN"):
        return None
    with torch.device("meta"):
        return count_parameters(nn.ModuleList([ExtendedLevel(256, CHANNELS, texture_transfer(made, CHANNELS))]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=192, help="px of the picture that times are measured on")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the clock")
    given = parser.parse_args()
    facts = made(torch.device("cpu"), f"python benchmarks/efpn_cost.py --side {given.side} --rounds {given.rounds}")
    tera = {title: counted(name) for title, name in BACKBONES.items()}
    print(keep("efpn_cost", table(tera, measured(given.side, given.rounds), given.side), facts))


if __name__ == "__main__":
    main()
