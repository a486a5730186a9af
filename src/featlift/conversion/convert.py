"""A file of somebody else's weights into one of our modules."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.rpn import RegionProposalNetwork

from featlift.checkpoints import read_state
from featlift.conversion.backbones import body_rules
from featlift.conversion.bifpn import PublishedBiFPN, bifpn_rules
from featlift.conversion.heads import (
    cascade_rules,
    centermask_rules,
    critic_rules,
    fcos_rules,
    generator_rules,
    neck_rules,
    rcnn_rules,
    retinanet_rules,
)
from featlift.conversion.pickles import read_zoo
from featlift.conversion.rules import Imported, Rule, below, translate
from featlift.detectors import Extractor
from featlift.detectors.cascade import CascadeHeads
from featlift.detectors.centermask import CenterMaskHeads
from featlift.detectors.rcnn import RoIAlign
from featlift.discriminators import PatchCritic
from featlift.features import stride
from featlift.interpolators import AFI
from featlift.pyramids import FPN

SCALE = re.compile(r"(.*fcos_head\.scales)\.(\d+)\.scale")
ELSEWHERE = Rule(r".*", None, why="belongs to another part of the published model")
DIFFERENCES: dict[type[nn.Module], str] = {
    RoIAlign: "RoIs are pooled half a cell to the lower right (torchvision's RoIAlign has no aligned=True here).",
    RegionProposalNetwork: "anchors are rounded to whole pixels; Detectron2's are not.",
    FCOS: "scores are cut off after centreness is multiplied in; the published code cuts before.",
}


def import_weights(module: nn.Module, source: str | Path | Mapping[str, Tensor]) -> Imported:
    """Fill ``module`` with published weights; returns, and prints as a table, what became of every key.

    Args:
        module: an :class:`AFI`, a :class:`PatchCritic`, a :class:`PublishedBiFPN`, or a detector of :mod:`featlift.detectors` whose
            backbone is of :mod:`featlift.conversion`. AFI and the BiFPN take their part of a whole detector's file.
        source: a file (torch, safetensors, or the zoo's ``.pkl``, see :func:`read_zoo`) or the named tensors themselves.

    Raises:
        ValueError: if the layout is unknown for such a module, a key is not known, a tensor is missing or of another shape (all
            are listed), the backbone has its strides elsewhere, or the file was refused. The module is then as it was.
        FileNotFoundError: if there is no such file.
    """
    state = _gathered(source if isinstance(source, Mapping) else _read(Path(source)))
    ours, report = translate(state, rules_for(module), module)
    report.notes = [
        note for kind, note in DIFFERENCES.items() if any(isinstance(part, kind) for part in module.modules())
    ]
    module.load_state_dict(ours, strict=False)
    return report


def rules_for(module: nn.Module) -> list[Rule]:
    """The rules that read published weights into ``module``. Raises ValueError if there are none."""
    for kind, rules in PARTS.items():
        if isinstance(module, kind):
            return rules()
    backbone: Any = getattr(module, "backbone", None)
    if not isinstance(backbone, Extractor) or not isinstance(backbone.pyramid, FPN):
        raise ValueError(
            f"No published layout is known for a {type(module).__name__}: there are {', '.join(kind.__name__ for kind in PARTS)}, and "
            "detectors on an Extractor with an FPN or PAFPN."
        )
    first = stride(backbone.levels[0]).bit_length() - 1
    body: Any = backbone.backbone
    return [
        *below("backbone.backbone.", body_rules(body), r"backbone\.bottom_up\."),
        *below("backbone.pyramid.", neck_rules(first), r"backbone\."),
        *_head_rules(module),
    ]


def _head_rules(detector: Any) -> list[Rule]:
    if isinstance(detector, RetinaNet):
        return retinanet_rules(detector.head.classification_head.num_classes - 1)
    if isinstance(detector, FCOS):
        return fcos_rules("head.")
    if isinstance(detector.roi_heads, CenterMaskHeads):
        return centermask_rules()
    if isinstance(detector.roi_heads, CascadeHeads):
        convolutions = sum(isinstance(m, nn.Conv2d) for m in detector.roi_heads.stages[0].modules())
        return cascade_rules(convolutions)
    return rcnn_rules()


def _generator() -> list[Rule]:
    return [*below("", generator_rules(), r"(?:backbone\.srf_module\.)?"), ELSEWHERE]


def _bifpn() -> list[Rule]:
    generator = below("interpolators.0.", generator_rules(), r"(?:backbone\.)?srf_module\.")
    return [*generator, *below("", bifpn_rules(), r"(?:backbone\.)?"), ELSEWHERE]


PARTS: dict[type[nn.Module], Callable[[], list[Rule]]] = {
    AFI: _generator,
    PatchCritic: critic_rules,
    PublishedBiFPN: _bifpn,
}


def _read(path: Path) -> dict[str, Tensor]:
    return read_zoo(path) if path.suffix == ".pkl" else read_state(path)


def _gathered(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """FCOS's scales, a scalar for each level in the file, as one tensor ``[levels]``."""
    found = sorted((int(m[2]), m[1], key) for key in state if (m := SCALE.fullmatch(key)))
    rest = {key: value for key, value in state.items() if not SCALE.fullmatch(key)}
    if found:
        rest[found[0][1]] = torch.cat([state[key].reshape(1) for _, _, key in found])
    return rest
