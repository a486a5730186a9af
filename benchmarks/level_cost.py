"""Cost of the extended level p3x next to the pass on the image at twice the size: ``python benchmarks/level_cost.py [--rounds 10]``.

Networks have random weights, which do not change the cost. Without ``--rounds`` only multiply-adds are counted, which do not depend on the
load of the machine.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from run import collect_metadata, write_result
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn

from featlift.integrations.yolox_network import YOLOX_SIZES, build_yolox
from featlift.upgrading import upgrade
from featlift.upgrading.extended_cost import LevelCost, level_cost
from featlift.upgrading.extended_level import get_extended_detector

Build = Callable[[], nn.Module]


def rt_detr_r18() -> nn.Module:
    """RT-DETR on ResNet-18 in the published configuration (rtdetr_r18vd)."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    options = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5, "decoder_layers": 3}
    return RTDetrForObjectDetection(RTDetrConfig(backbone_config=backbone, **options))


def retinanet() -> nn.Module:
    """torchvision's RetinaNet on ResNet-50."""
    return retinanet_resnet50_fpn(weights=None, weights_backbone=None)


NETWORKS: dict[str, tuple[Build, int]] = {
    **{f"YOLOX-{name}": (lambda name=name: build_yolox(name), YOLOX_SIZES[name].image_size) for name in ("nano", "s")},
    "RT-DETR-R18": (rt_detr_r18, 640),
    "RetinaNet-R50": (retinanet, 640),
}
"""Name → function that builds the network, and the side of its image in px."""


def measure_costs(networks: Mapping[str, tuple[Build, int]], rounds: int) -> list[dict[str, Any]]:
    """Return one table: the added parameters, and GMAC (with ``rounds`` also milliseconds) of each pass."""
    rows = []
    for name, (build, side) in networks.items():
        torch.manual_seed(0)
        network = build().eval()
        upgrade(network, level="p3x")
        rows.append({"network": name} | _row(level_cost(get_extended_detector(network), (side, side), rounds)))
    caption = "Cost of the extended level p3x: what it adds to the pass on the image, and the pass on the image at twice the size"
    return [{"caption": caption, "rows": rows}]


def _row(cost: LevelCost) -> dict[str, Any]:
    row: dict[str, Any] = {"image, px": cost.image_size[0], "added parameters": cost.parameters}
    row |= {f"{name}, GMAC": round(gmacs, 2) for name, gmacs in cost.gmacs.items()}
    row["level / 2x image"] = round(cost.gmac_share, 2)
    for name, seconds in (cost.seconds or {}).items():
        row[f"{name}, ms"] = round(1e3 * seconds, 1)
    return row


def main() -> None:
    """Measure all networks and write ``results/level_cost.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=0, help="rounds of timing; 0: only multiply-adds")
    rounds = parser.parse_args().rounds
    command = "python benchmarks/level_cost.py" + (f" --rounds {rounds}" if rounds else "")
    metadata = collect_metadata(torch.device("cpu"), command)
    print(write_result("level_cost", measure_costs(NETWORKS, rounds), metadata))


if __name__ == "__main__":
    main()
