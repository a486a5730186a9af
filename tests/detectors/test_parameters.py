"""The parameter columns of the papers, and the exact counts behind them.

Counts are of Detectron2's heads, which predict K classes. torchvision's, which FeatLift uses, have an unused background class:

* class-specific boxes of Faster and Mask R-CNN: 4 · (1024 + 1);
* masks: 256 + 1; predicted mask IoU: 1024 + 1;
* classes of RetinaNet: 9 anchors · (9 · 256 + 1), of FCOS: 9 · 256 + 1.

The classifier of the R-CNNs has the background class in both, and Cascade R-CNN's boxes are class-agnostic.
"""

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from featlift.backbones import Backbone
from featlift.detectors import backbone_levels, detector, extractor, num_upsampling_steps
from featlift.detectors.config import build_backbone, build_on_backbone, resnest_detector_config, swin_detector_config
from featlift.interpolators import build_interpolators

BOXES, MASKS, IOU, CLASS = 4 * 1025, 257, 1025, 2305
BACKGROUND = {
    "faster-rcnn": BOXES,
    "mask-rcnn": BOXES + MASKS,
    "retinanet": 9 * CLASS,
    "fcos": CLASS,
    "centermask": CLASS + MASKS + IOU,
    "cascade-mask-rcnn": MASKS,
    "cascade-rcnn": 0,
}
EXACT = {
    ("mask-rcnn", "nearest", "fpn"): 44_343_216,
    ("mask-rcnn", "afi", "fpn"): 52_177_840,
    ("mask-rcnn", "srf", "fpn"): 54_378_928,
    ("mask-rcnn", "bicubic-5conv", "fpn"): 53_200_560,
    ("mask-rcnn", "deconv", "fpn"): 53_192_112,
    ("mask-rcnn", "afi", "pafpn"): 53_948_080,
    ("faster-rcnn", "nearest", "fpn"): 41_699_936,
    ("faster-rcnn", "srf", "fpn"): 51_735_648,
    ("retinanet", "nearest", "fpn"): 37_915_572,
    ("retinanet", "afi", "fpn"): 45_750_196,
    ("retinanet", "deconv", "fpn"): 43_814_836,
    ("fcos", "nearest", "fpn"): 32_244_250,
    ("fcos", "afi", "fpn"): 40_078_874,
    ("centermask", "nearest", "fpn"): 51_227_852,
    ("centermask", "afi", "fpn"): 59_062_476,
    ("cascade-mask-rcnn", "nearest", "fpn"): 71_984_926,
    ("cascade-mask-rcnn", "afi", "fpn"): 79_819_550,
}
INTERPOLATION = {"NN": "nearest", "BL": "bilinear", "BC": "bicubic", "NN-5conv": "nearest-5conv", "SRF": "srf"} | {
    "BL-5conv": "bilinear-5conv",
    "BC-5conv": "bicubic-5conv",
    "Deconv": "deconv",
    "AFI": "afi",
    "AFI (ours)": "afi-rb",  # Table 6 prints 54 M, which is the residual-block generator's (spec §1.5); Table 3 has 52 M
}
PAPERS = Path(__file__).parents[2] / "benchmarks" / "papers"


@functools.cache
def resnet50():
    return Backbone("resnet50")


def published(name, interpolator, pyramid="fpn"):
    """The count with heads of K classes; all but the backbone is built on the meta device."""
    backbone, levels = resnet50(), backbone_levels(name, pyramid)
    levels_only = nn.Module()
    levels_only.channels, levels_only.mean, levels_only.whole = (
        {n: backbone.channels[n] for n in levels},
        backbone.mean,
        backbone,
    )
    with torch.device("meta"):
        interpolators = build_interpolators(interpolator, 256, num_upsampling_steps(name, pyramid))
        built = detector(name, extractor(name, levels_only, interpolators, 256, pyramid), 80)
    return sum(p.numel() for p in built.parameters()) - BACKGROUND[name]


@pytest.mark.parametrize(("row", "count"), EXACT.items(), ids=map(" ".join, EXACT))
def test_exact_counts(row, count):
    assert published(*row) == count


def printed():
    """(paper and table, detector, interpolation, millions) of every cell of a parameter column."""
    tomllib = pytest.importorskip("tomllib")
    for stem in ("afi_gan", "srf_gan"):
        with (PAPERS / f"{stem}.toml").open("rb") as file:
            tables = tomllib.load(file)["table"]
        for number, table in tables.items():
            for row in (dict(zip(table["columns"], row, strict=True)) for row in table["rows"]):
                if row.get("params_M", ""):
                    name = row.get("target_detector", row.get("detector", "Mask R-CNN"))
                    interpolation = row.get("interpolation", row.get("variant"))
                    yield (
                        f"{stem} {number}",
                        name.lower().replace(" ", "-").replace("r-cnn", "rcnn"),
                        interpolation,
                        row["params_M"],
                    )


def test_every_printed_count_is_truncated_to_millions():
    """The papers truncate, they do not round: 37.9 M is printed as 37."""
    cells = list(printed())
    assert len(cells) == 12 + 8 + 11  # AFI Tables 3 and 6, SRF Table 1
    for where, name, interpolation, millions in cells:
        assert published(name, INTERPOLATION[interpolation]) // 10**6 == millions, (where, name, interpolation)


@pytest.mark.parametrize(("pyramid", "count"), [("fpn", 106_525_054), ("pafpn", 108_296_062)])
def test_resnest_rows(pyramid, count):
    """Cascade Mask R-CNN S-101 with AFI: batch norm in neck and heads, and, frozen up to c2, none of it there."""
    model = replace(resnest_detector_config("afi"), pyramid=pyramid, backbone_weights="random")
    backbone = build_backbone(model)
    with torch.device("meta"):
        built = build_on_backbone(backbone, model, 80)
    assert sum(p.numel() for p in built.parameters()) - BACKGROUND["cascade-mask-rcnn"] == count
    heads, neck = (
        [type(m) for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for part in (built.roi_heads, built.backbone.pyramid)
    )
    assert heads == [nn.SyncBatchNorm] * (3 * 4 + 4)  # three box heads and the mask head
    assert set(neck) == {nn.SyncBatchNorm}


def test_the_swin_rows_have_the_published_heads_and_anchors():
    model = replace(
        swin_detector_config(), backbone="resnet10t", norm="batch", drop_path_rate=0.0, backbone_weights="random"
    )
    backbone = build_backbone(model)
    with torch.device("meta"):
        built = build_on_backbone(backbone, model, 80)
    assert built.rpn.anchor_generator.sizes == ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    assert built.backbone.levels == ("p3", "p4", "p5", "p6", "p7")
    head = 4 * (256 * 256 * 9 + 2 * 256) + (
        256 * 49 * 1024 + 1024
    )  # four convolutions with norm, one fully connected layer
    predictor = 1024 * 81 + 81 + 1024 * 4 + 4
    assert sum(p.numel() for p in built.roi_heads.parameters()) == 3 * (head + predictor)
