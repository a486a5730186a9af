"""Import of published weight files into FeatLift modules."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.rpn import RegionProposalNetwork

from featlift.checkpoints import read_state_dict
from featlift.conversion.backbones import backbone_rules
from featlift.conversion.bifpn import bifpn_rules
from featlift.conversion.heads import (
    afi_rules,
    cascade_rules,
    centermask_rules,
    discriminator_rules,
    fcos_rules,
    neck_rules,
    rcnn_rules,
    retinanet_rules,
)
from featlift.conversion.pickles import read_detectron2_pickle
from featlift.conversion.rules import ImportReport, KeyRule, convert_state_dict, with_prefix
from featlift.detectors import Extractor
from featlift.detectors.aligned import AlignedRoIAlign
from featlift.detectors.cascade_heads import CascadeRoIHeads
from featlift.detectors.centermask import CenterMaskRoIHeads
from featlift.detectors.rcnn import PyramidRoIAlign
from featlift.distillation.discriminator import PatchDiscriminator
from featlift.features import level_stride
from featlift.interpolators import AFI
from featlift.pyramids import FPN
from featlift.pyramids.published_bifpn import PublishedBiFPN

FCOS_SCALE_KEY = re.compile(r"(.*fcos_head\.scales)\.(\d+)\.scale")
SKIP_OTHER_PARTS = KeyRule(r".*", None, reason="belongs to another part of the published model")
KNOWN_DIFFERENCES: dict[type[nn.Module], str] = {
    PyramidRoIAlign: "RoIs are pooled half a cell to the lower right (torchvision's RoIAlign is used without aligned=True).",
    RegionProposalNetwork: "anchors are rounded to whole pixels; Detectron2's are not.",
    FCOS: "the score threshold applies after multiplication by the centerness; in the published code, before.",
}


def import_weights(module: nn.Module, source: str | Path | Mapping[str, Tensor]) -> ImportReport:
    """Load published weights into ``module`` and return a report of every key.

    Args:
        module: An :class:`AFI`, a :class:`PatchDiscriminator`, a :class:`PublishedBiFPN`, or a detector of :mod:`featlift.detectors` with a
            backbone of :mod:`featlift.conversion`. AFI and the BiFPN also read their part of a detector's file.
        source: Weight file (torch, safetensors, or Detectron2's ``.pkl``, see :func:`read_detectron2_pickle`) or a state dict.

    Raises:
        ValueError: If no layout is known for the module, a key is unknown, a tensor is missing or has another shape (all are listed), the
            backbone has its strides in other convolutions, or the file was rejected. The module is not changed.
        FileNotFoundError: If the file does not exist.
    """
    state = _stack_fcos_scales(source if isinstance(source, Mapping) else _read_tensors(Path(source)))
    converted, report = convert_state_dict(state, key_rules(module), module)
    parts = list(module.modules())
    notes = {cls: note for cls, note in KNOWN_DIFFERENCES.items() if any(isinstance(part, cls) for part in parts)}
    if any(isinstance(part, AlignedRoIAlign) for part in parts):
        notes.pop(RegionProposalNetwork)
    report.notes = list(notes.values())
    module.load_state_dict(converted, strict=False)
    return report


def key_rules(module: nn.Module) -> list[KeyRule]:
    """Return the rules that map published keys to ``module``. Raises ValueError if there are none."""
    for cls, rules in RULES_BY_CLASS.items():
        if isinstance(module, cls):
            return rules()
    backbone: Any = getattr(module, "backbone", None)
    if not isinstance(backbone, Extractor) or not isinstance(backbone.pyramid, FPN | PublishedBiFPN):
        raise ValueError(
            f"No published layout is known for a {type(module).__name__}; supported are "
            f"{', '.join(cls.__name__ for cls in RULES_BY_CLASS)}, and detectors on an Extractor with an FPN, a PAFPN or the "
            "published BiFPN."
        )
    network: Any = backbone.backbone
    return [
        *with_prefix("backbone.backbone.", backbone_rules(network), r"backbone\.bottom_up\."),
        *with_prefix("backbone.pyramid.", _pyramid_rules(backbone), r"backbone\."),
        *_head_rules(module),
    ]


def _pyramid_rules(extractor: Extractor) -> list[KeyRule]:
    if isinstance(extractor.pyramid, PublishedBiFPN):
        return [*with_prefix("interpolators.0.", afi_rules(), r"srf_module\."), *bifpn_rules()]
    return neck_rules(level_stride(extractor.levels[0]).bit_length() - 1)


def _head_rules(detector: Any) -> list[KeyRule]:
    if isinstance(detector, RetinaNet):
        return retinanet_rules(detector.head.classification_head.num_classes - 1)
    if isinstance(detector, FCOS):
        return fcos_rules("head.")
    if isinstance(detector.roi_heads, CenterMaskRoIHeads):
        return centermask_rules()
    if isinstance(detector.roi_heads, CascadeRoIHeads):
        return cascade_rules(sum(isinstance(m, nn.Conv2d) for m in detector.roi_heads.stages[0].modules()))
    return rcnn_rules()


def _generator_file_rules() -> list[KeyRule]:
    return [*with_prefix("", afi_rules(), r"(?:backbone\.srf_module\.)?"), SKIP_OTHER_PARTS]


def _bifpn_file_rules() -> list[KeyRule]:
    generator = with_prefix("interpolators.0.", afi_rules(), r"(?:backbone\.)?srf_module\.")
    return [*generator, *with_prefix("", bifpn_rules(), r"(?:backbone\.)?"), SKIP_OTHER_PARTS]


RULES_BY_CLASS: dict[type[nn.Module], Callable[[], list[KeyRule]]] = {
    AFI: _generator_file_rules,
    PatchDiscriminator: discriminator_rules,
    PublishedBiFPN: _bifpn_file_rules,
}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    return read_detectron2_pickle(path) if path.suffix == ".pkl" else read_state_dict(path)


def _stack_fcos_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack FCOS's scales, one scalar per level in the file, into one tensor ``[levels]``."""
    scales = sorted((int(m[2]), m[1], key) for key in state if (m := FCOS_SCALE_KEY.fullmatch(key)))
    stacked = {key: value for key, value in state.items() if not FCOS_SCALE_KEY.fullmatch(key)}
    if scales:
        stacked[scales[0][1]] = torch.cat([state[key].reshape(1) for _, _, key in scales])
    return stacked
