"""EFPN's detector (Sec. III-A and IV): an existing detector with an extended level and a second box head for small RoIs.

:func:`extend_detector` converts a Faster or Mask R-CNN. The RPN still reads p2 … p6 only. RoIs below a size are pooled from p2x (stride 2)
and classified by the new head, the others by the old head; a joint non-maximum suppression follows.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference

from featlift.backbones import stride2
from featlift.detectors.extractor import Extractor, get_extractor
from featlift.detectors.ohem import box_head_losses, ohem_select
from featlift.detectors.sparse_level import DenseReader, RoIReader
from featlift.features import Features, Target
from featlift.pyramids.efpn import ExtendedLevel
from featlift.pyramids.fpn import FPN

TT100K_SMALL_ROI_SIZE = 56.0


class ExtendedExtractor(nn.Module):
    """Extractor that also returns the inputs of the extended level and computes it.

    Args:
        extractor: Extractor with an FPN or PAFPN that starts at p2 and a ResNet- or EfficientNet-like backbone; its modules are shared.
        extension: inner3, inner2, c2x → p3x, p2x.

    Raises:
        TypeError: If the pyramid is no FPN or PAFPN from p2, or the backbone has no map of stride 2.
    """

    def __init__(self, extractor: Extractor, extension: ExtendedLevel):
        super().__init__()
        self.backbone, self.pyramid, self.extension = extractor.backbone, extractor.pyramid, extension
        if not isinstance(self.pyramid, FPN) or extractor.levels[0] != "p2":
            raise TypeError(
                f"EFPN extends an FPN or PAFPN that starts at p2; this extractor has a {type(self.pyramid).__name__} that starts at "
                f"{extractor.levels[0]}. Use faster-rcnn or mask-rcnn with pyramid 'fpn' or 'pafpn'."
            )
        stride2.stem_layers(self.backbone.network)
        self.levels, self.out_channels = extractor.levels, extractor.out_channels
        self.size_divisible = extractor.size_divisible

    @property
    def mean(self) -> Tensor:
        """Color ``[1, 3, 1, 1]`` in 0…1 that the backbone maps to zero."""
        return self.backbone.mean  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{"p2": [B, C, H/4, W/4], …}``, and ``inner3``, ``inner2`` (or p3, p2), ``c1`` (strides 8, 4, 2)."""
        maps = self.backbone(image)
        inner = self.pyramid.inner_maps(maps)  # type: ignore[operator]
        features = self.pyramid.outputs_from_inner(maps, inner)  # type: ignore[operator]
        c1 = self.backbone.forward_stem(image)  # type: ignore[operator]
        inner2, inner3 = inner[:2] if self.extension.inputs == "inner" else (features["p2"], features["p3"])
        return {**features, "inner3": inner3, "inner2": inner2, "c1": c1}

    def extended_levels(self, features: Features) -> Features:
        """Return ``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}`` from the output of :meth:`forward`, or from crops of it."""
        c2x = self.backbone.forward_unpooled(features["c1"])  # type: ignore[operator]
        return self.extension(features["inner3"], features["inner2"], c2x)


class LevelSubsetRPN(nn.Module):
    """RPN that reads the given levels only and ignores other features."""

    def __init__(self, rpn: nn.Module, levels: Sequence[str]):
        super().__init__()
        self.rpn, self.levels = rpn, tuple(levels)

    def forward(
        self, images: ImageList, features: Features, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Images, level → ``[B, C, H, W]``, and targets in training → proposals ``[N, 4]`` of each image, and losses."""
        return self.rpn(images, {level: features[level] for level in self.levels}, targets)


@dataclass(frozen=True)
class ExclusiveRouting:
    """Routing of the paper: RoIs with √(w·h) below ``small_roi_size`` pixels go to p2x only, the others to p2 … p5 (extends Eq. (2))."""

    small_roi_size: float = TT100K_SMALL_ROI_SIZE

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes ``[N, 4]`` xyxy in pixels of the resized image → masks ``[N]`` of the boxes for the old head and for the new head."""
        small = _box_sizes(boxes) < self.small_roi_size
        return ~small, small


@dataclass(frozen=True)
class DuplicateRouting:
    """Routing of the release at inference: small RoIs go to both heads, pooled from p2 and from p2x."""

    small_roi_size: float = TT100K_SMALL_ROI_SIZE

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`ExclusiveRouting.__call__`, but all boxes go to the old head."""
        small = _box_sizes(boxes) < self.small_roi_size
        return torch.ones_like(small), small


def _box_sizes(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()


class EFPNRoIHeads(nn.Module):
    """RoI heads with a second box head for small RoIs on p2x.

    Training returns the losses of the *new* head only, from the ``ohem_per_image`` hardest small RoIs per image (OHEM): EFPN's last phase
    trains this head alone. Masks are predicted from p2 … p5 by the old mask head.

    Args:
        coarse: Old RoI heads.
        fine: Box head and predictor of small RoIs, ``[N, C, 7, 7]`` → logits ``[N, K+1]`` and box deltas ``[N, 4(K+1)]``.
        routing: :class:`ExclusiveRouting` or :class:`DuplicateRouting`.
        roi_reader: Pools small RoIs from p2x: :class:`~featlift.detectors.sparse_level.DenseReader` or ``SparseReader``.
        ohem_per_image: Small RoIs per image used for training.
        prefilter_score: At inference, small RoIs with a lower foreground probability in the old head on p2 are not pooled from p2x; 0 pools
            all (paper). Most proposals are background, so this reduces the tiles to compute.
    """

    def __init__(
        self,
        coarse: RoIHeads,
        fine: nn.Module,
        routing: ExclusiveRouting | DuplicateRouting,
        roi_reader: RoIReader,
        ohem_per_image: int = 128,
        prefilter_score: float = 0.0,
    ):
        super().__init__()
        self.coarse, self.fine = coarse, fine
        self.routing, self.roi_reader = routing, roi_reader
        self.ohem_per_image, self.prefilter_score = ohem_per_image, prefilter_score

    def forward(
        self,
        features: Features,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Level → ``[B, C, H, W]``, proposals ``[N, 4]``, sizes, targets → detections and losses, as torchvision's RoI heads."""
        if self.training:
            return [], self.compute_losses(features, proposals, targets)
        return self.detect(features, proposals, image_shapes), {}

    def compute_losses(
        self, features: Features, proposals: list[Tensor], targets: list[Target] | None
    ) -> dict[str, Tensor]:
        """Compute the classification and box loss of the new head on the small RoIs of torchvision's sample (512, 25 % foreground).

        Without small RoIs, both losses are 0 and keep a graph.
        """
        sampled, _, labels, deltas = self.coarse.select_training_samples(proposals, targets)
        masks = [self.routing(boxes)[1] for boxes in sampled]
        counts, small = torch.stack([mask.sum() for mask in masks]).tolist(), torch.cat(masks).nonzero().flatten()
        logits, predicted_deltas = self.fine(self.roi_reader(features, torch.cat(sampled)[small].split(counts)))
        small_labels, small_deltas = torch.cat(labels)[small], torch.cat(deltas)[small]
        classification, box = box_head_losses(logits, predicted_deltas, small_labels, small_deltas)
        hard = ohem_select(classification, box, small_labels, self.ohem_per_image * len(sampled))
        scale = 1 / hard.sum().clamp(min=1)
        return {"loss_classifier": (classification * hard).sum() * scale, "loss_box_reg": (box * hard).sum() * scale}

    def detect(self, features: Features, proposals: list[Tensor], image_sizes: list[tuple[int, int]]) -> list[Target]:
        """Return boxes ``[N, 4]``, labels and scores ``[N]`` of each image, after a joint non-maximum suppression of both heads."""
        routed = [self.routing(boxes) for boxes in proposals]
        coarse, fine = (_select(proposals, [masks[head] for masks in routed]) for head in (0, 1))
        fine = _select(fine, self._prefilter(features, fine, image_sizes)) if self.prefilter_score else fine
        outputs = self._predict_coarse(features, coarse, image_sizes), self.fine(self.roi_reader(features, fine))
        coarse_counts, fine_counts = ([len(boxes) for boxes in group] for group in (coarse, fine))
        logits, deltas = (
            _interleave(c.split(coarse_counts), f.split(fine_counts)) for c, f in zip(*outputs, strict=True)
        )
        boxes = [torch.cat(pair) for pair in zip(coarse, fine, strict=True)]
        results = self.coarse.postprocess_detections(logits, deltas, boxes, image_sizes)
        detections = [{"boxes": b, "scores": s, "labels": k} for b, s, k in zip(*results, strict=True)]
        return self._add_masks(detections, features, image_sizes) if self.coarse.has_mask() else detections

    def _predict_coarse(
        self, features: Features, boxes: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Predict logits ``[ΣN, K+1]`` and box deltas ``[ΣN, 4(K+1)]`` of ``boxes`` with the old head on p2 … p5."""
        return self.coarse.box_predictor(self.coarse.box_head(self.coarse.box_roi_pool(features, boxes, image_sizes)))

    def _prefilter(self, features: Features, boxes: list[Tensor], image_sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Return a mask ``[N]`` per image: ``boxes`` with a foreground probability of at least ``prefilter_score`` in the old head."""
        logits, _ = self._predict_coarse(features, boxes, image_sizes)
        is_foreground = 1 - logits.softmax(dim=1)[:, 0] >= self.prefilter_score
        return list(is_foreground.split([len(b) for b in boxes]))

    def _add_masks(
        self, detections: list[Target], features: Features, image_sizes: list[tuple[int, int]]
    ) -> list[Target]:
        heads: Any = self.coarse
        pooled = heads.mask_roi_pool(features, [d["boxes"] for d in detections], image_sizes)
        masks = maskrcnn_inference(heads.mask_predictor(heads.mask_head(pooled)), [d["labels"] for d in detections])
        return [{**d, "masks": m} for d, m in zip(detections, masks, strict=True)]


def extend_detector(
    detector: GeneralizedRCNN,
    extension: ExtendedLevel,
    routing: ExclusiveRouting | DuplicateRouting | None = None,
    make_reader: Callable[[Callable[[Features], Features]], RoIReader] = DenseReader,
    ohem_per_image: int = 128,
    prefilter_score: float = 0.0,
) -> GeneralizedRCNN:
    """Build an EFPN from ``detector``, whose modules it shares; the new head starts as a copy of the old box head.

    Args:
        detector: Faster or Mask R-CNN on a FeatLift extractor with an FPN or PAFPN from p2.
        extension: Computes p2x (see `featlift.pyramids.efpn`).
        routing: Default :class:`ExclusiveRouting` with 56 pixels, as on TT100K; COCO uses 112.
        make_reader: Builds the RoI reader from the extension function: :class:`~featlift.detectors.sparse_level.DenseReader`, or
            ``SparseReader``, which computes p2x only around small RoIs.
        ohem_per_image: Small RoIs per image that train the new head.
        prefilter_score: See :class:`EFPNRoIHeads`.

    Raises:
        TypeError: If the detector is not supported, or its backbone has no map of stride 2.
    """
    heads = getattr(detector, "roi_heads", None)
    if type(heads) is not RoIHeads:
        raise TypeError(
            f"EFPN extends Faster and Mask R-CNN; the RoI heads of this {type(detector).__name__} are {type(heads).__name__}."
        )
    extractor = ExtendedExtractor(get_extractor(detector), extension)
    fine = nn.Sequential(copy.deepcopy(heads.box_head), copy.deepcopy(heads.box_predictor))
    reader = make_reader(extractor.extended_levels)
    roi_heads = EFPNRoIHeads(heads, fine, routing or ExclusiveRouting(), reader, ohem_per_image, prefilter_score)
    return GeneralizedRCNN(extractor, LevelSubsetRPN(detector.rpn, extractor.levels), roi_heads, detector.transform)


def _select(values: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    return [value[mask] for value, mask in zip(values, masks, strict=True)]


def _interleave(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Concatenate, for each image, the rows of ``first`` and then of ``second``."""
    return torch.cat([rows for pair in zip(first, second, strict=True) for rows in pair])
