"""A file of somebody else's weights into one of our modules."""

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
from featlift.conversion.bifpn import PublishedBiFPN, bifpn_rules
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
from featlift.detectors.cascade import CascadeRoIHeads
from featlift.detectors.centermask import CenterMaskRoIHeads
from featlift.detectors.rcnn import PyramidRoIAlign
from featlift.discriminators import PatchDiscriminator
from featlift.features import level_stride
from featlift.interpolators import AFI
from featlift.pyramids import FPN

FCOS_SCALE_KEY = re.compile(r"(.*fcos_head\.scales)\.(\d+)\.scale")
SKIP_OTHER_PARTS = KeyRule(r".*", None, reason="belongs to another part of the published model")
KNOWN_DIFFERENCES: dict[type[nn.Module], str] = {
    PyramidRoIAlign: "RoIs are pooled half a cell to the lower right (torchvision's RoIAlign has no aligned=True here).",
    RegionProposalNetwork: "anchors are rounded to whole pixels; Detectron2's are not.",
    FCOS: "scores are cut off after centerness is multiplied in; the published code cuts before.",
}


def import_weights(module: nn.Module, source: str | Path | Mapping[str, Tensor]) -> ImportReport:
    """Fill ``module`` with published weights; returns, and prints as a table, what became of every key.

    Args:
        module: an :class:`AFI`, a :class:`PatchDiscriminator`, a :class:`PublishedBiFPN`, or a detector of :mod:`featlift.detectors` whose
            backbone is of :mod:`featlift.conversion`. AFI and the BiFPN take their part of a whole detector's file.
        source: a file (torch, safetensors, or the zoo's ``.pkl``, see :func:`read_detectron2_pickle`) or the named tensors themselves.

    Raises:
        ValueError: if the layout is unknown for such a module, a key is not known, a tensor is missing or of another shape (all
            are listed), the backbone has its strides elsewhere, or the file was refused. The module is then as it was.
        FileNotFoundError: if there is no such file.
    """
    state = _stack_fcos_scales(source if isinstance(source, Mapping) else _read_tensors(Path(source)))
    ours, report = convert_state_dict(state, key_rules(module), module)
    report.notes = [
        note for kind, note in KNOWN_DIFFERENCES.items() if any(isinstance(part, kind) for part in module.modules())
    ]
    module.load_state_dict(ours, strict=False)
    return report


def key_rules(module: nn.Module) -> list[KeyRule]:
    """The rules that read published weights into ``module``. Raises ValueError if there are none."""
    for kind, rules in RULES_BY_CLASS.items():
        if isinstance(module, kind):
            return rules()
    backbone: Any = getattr(module, "backbone", None)
    if not isinstance(backbone, Extractor) or not isinstance(backbone.pyramid, FPN):
        raise ValueError(
            f"No published layout is known for a {type(module).__name__}: there are {', '.join(kind.__name__ for kind in RULES_BY_CLASS)}, and "
            "detectors on an Extractor with an FPN or PAFPN."
        )
    first = level_stride(backbone.levels[0]).bit_length() - 1
    body: Any = backbone.backbone
    return [
        *with_prefix("backbone.backbone.", backbone_rules(body), r"backbone\.bottom_up\."),
        *with_prefix("backbone.pyramid.", neck_rules(first), r"backbone\."),
        *_head_rules(module),
    ]


def _head_rules(detector: Any) -> list[KeyRule]:
    if isinstance(detector, RetinaNet):
        return retinanet_rules(detector.head.classification_head.num_classes - 1)
    if isinstance(detector, FCOS):
        return fcos_rules("head.")
    if isinstance(detector.roi_heads, CenterMaskRoIHeads):
        return centermask_rules()
    if isinstance(detector.roi_heads, CascadeRoIHeads):
        convolutions = sum(isinstance(m, nn.Conv2d) for m in detector.roi_heads.stages[0].modules())
        return cascade_rules(convolutions)
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
    """FCOS's scales, a scalar for each level in the file, as one tensor ``[levels]``."""
    found = sorted((int(m[2]), m[1], key) for key in state if (m := FCOS_SCALE_KEY.fullmatch(key)))
    rest = {key: value for key, value in state.items() if not FCOS_SCALE_KEY.fullmatch(key)}
    if found:
        rest[found[0][1]] = torch.cat([state[key].reshape(1) for _, _, key in found])
    return rest
