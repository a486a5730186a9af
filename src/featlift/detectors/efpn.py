"""EFPN's detector (Sec. III-A, IV): a detector that exists, with a finer level for its small RoIs and a head of their own.

:func:`extend_detector` turns a Faster or Mask R-CNN into one. The proposals come from p2 … p6 as before: its RPN never sees the finer level. RoIs
below a size are pooled from p2x (stride 2) and judged by the new head, the others by the old one; one suppression ends both.
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
from featlift.detectors.sparse_level import DenseReader, RoIReader
from featlift.features import Features
from featlift.losses import box_head_losses, ohem_select
from featlift.pyramids.efpn import ExtendedLevel
from featlift.pyramids.fpn import FPN

TT100K_SMALL_ROI_SIZE, COCO_SMALL_ROI_SIZE = 56.0, 112.0
Target = dict[str, Tensor]


class ExtendedExtractor(nn.Module):
    """An extractor that also gives what the finer level is made from, and makes it.

    Args:
        extractor: with an FPN or PAFPN that begins at p2, on a backbone of the ResNet or EfficientNet family; its weights are shared.
        extension: inner3, inner2, c2x → p3x, p2x.

    Raises:
        TypeError: if the pyramid has no top-down maps to extend, or the backbone no map of stride 2.
    """

    def __init__(self, extractor: Extractor, extension: ExtendedLevel):
        super().__init__()
        self.backbone, self.pyramid, self.extension = extractor.backbone, extractor.pyramid, extension
        if not isinstance(self.pyramid, FPN) or extractor.levels[0] != "p2":
            raise TypeError(
                f"EFPN extends an FPN or PAFPN that begins at p2; this extractor has a {type(self.pyramid).__name__} that begins at "
                f"{extractor.levels[0]}. Use faster-rcnn or mask-rcnn on 'fpn' or 'pafpn'."
            )
        stride2.stem_layers(self.backbone.network)
        self.levels, self.out_channels, self.size_divisible = (
            extractor.levels,
            extractor.out_channels,
            extractor.size_divisible,
        )

    @property
    def mean(self) -> Tensor:
        """The color ``[1, 3, 1, 1]`` in 0…1 that becomes zero inside the backbone."""
        return self.backbone.mean  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{"p2": [B, C, H/4, W/4], …}``, and ``inner3``, ``inner2``, ``c1`` (strides 8, 4, 2)."""
        maps = self.backbone(image)
        inner = self.pyramid.inner_maps(maps)  # type: ignore[operator]
        found = self.pyramid.outputs(maps, inner)  # type: ignore[operator]
        return {**found, "inner3": inner[1], "inner2": inner[0], "c1": self.backbone.stem(image)}  # type: ignore[operator]

    def extended_levels(self, features: Features) -> Features:
        """``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}`` from what :meth:`forward` gave, or from windows of it."""
        c2x = self.backbone.unpooled(features["c1"])  # type: ignore[operator]
        return self.extension(features["inner3"], features["inner2"], c2x)


class LevelSubsetRPN(nn.Module):
    """An RPN that sees the named levels only, whatever else is among the features."""

    def __init__(self, rpn: nn.Module, levels: Sequence[str]):
        super().__init__()
        self.rpn, self.levels = rpn, tuple(levels)

    def forward(
        self, images: ImageList, features: Features, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Pictures, maps ``[B, C, H, W]`` by level, and targets in training → proposals ``[N, 4]`` of each picture, and losses."""
        return self.rpn(images, {level: features[level] for level in self.levels}, targets)


@dataclass(frozen=True)
class ExclusiveRouting:
    """The paper's routing: RoIs with √(w·h) below ``small_roi_size`` px go to p2x alone, the others to p2 … p5 (Eq. 2 with one level more)."""

    small_roi_size: float = TT100K_SMALL_ROI_SIZE

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, 4]`` xyxy in px of the resized picture → which go to the old head, which to the new one, both ``[N]``."""
        small = _box_sizes(boxes) < self.small_roi_size
        return ~small, small


@dataclass(frozen=True)
class DuplicateRouting:
    """The release's routing when it detects: small RoIs are judged by both heads, from p2 and from p2x."""

    small_roi_size: float = TT100K_SMALL_ROI_SIZE

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Exclusive.__call__`; the first answer is all of them."""
        small = _box_sizes(boxes) < self.small_roi_size
        return torch.ones_like(small), small


def _box_sizes(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()


class EFPNRoIHeads(nn.Module):
    """RoI heads with a second box head, for small RoIs, on p2x.

    In training it gives the losses of the *new* head alone, from the ``ohem_per_image`` hardest small RoIs a picture (OHEM): that is what EFPN's
    last phase learns, all else having been trained before. Masks, where there are any, are drawn from p2 … p5 by the old mask head.

    Args:
        coarse: the old heads.
        fine: box head and predictor of small RoIs, ``[N, C, 7, 7]`` → logits ``[N, K+1]`` and box deltas ``[N, 4(K+1)]``.
        routing: which RoIs are small: :class:`ExclusiveRouting` or :class:`DuplicateRouting`.
        roi_reader: how p2x is read at small RoIs: :class:`~featlift.detectors.sparse_level.DenseReader` or ``Windows``.
        ohem_per_image: RoIs that are learned from, per picture.
        prefilter_score: a small RoI in which the old head, on p2, sees an object with less than this chance is not looked at on p2x when
            detecting; 0 looks at all (the paper). Most proposals are background, and windows are needed only where some are left.
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
        self.routing, self.roi_reader, self.ohem_per_image, self.prefilter_score = (
            routing,
            roi_reader,
            ohem_per_image,
            prefilter_score,
        )

    def forward(
        self,
        features: Features,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Maps ``[B, C, H, W]`` by level, proposals ``[N, 4]``, sizes, targets → detections and losses, as torchvision's heads."""
        if self.training:
            return [], self.compute_losses(features, proposals, targets)
        return self.detect(features, proposals, image_shapes), {}

    def compute_losses(
        self, features: Features, proposals: list[Tensor], targets: list[Target] | None
    ) -> dict[str, Tensor]:
        """The new head's classification and box loss; RoIs are sampled as ever (512, a quarter of them objects), the small ones taken.

        Both are 0, with a graph, where no RoI is small.
        """
        sampled, _, labels, deltas = self.coarse.select_training_samples(proposals, targets)
        small = [self.routing(boxes)[1] for boxes in sampled]
        logits, offsets = self.fine(self.roi_reader(features, _select(sampled, small)))
        truth = torch.cat(_select(labels, small))
        classification, box = box_head_losses(logits, offsets, truth, torch.cat(_select(deltas, small)))
        kept = ohem_select(classification, box, truth, self.ohem_per_image * len(sampled))
        share = 1 / max(1, len(kept))
        return {"loss_classifier": classification[kept].sum() * share, "loss_box_reg": box[kept].sum() * share}

    def detect(self, features: Features, proposals: list[Tensor], image_sizes: list[tuple[int, int]]) -> list[Target]:
        """Boxes ``[N, 4]``, labels and scores ``[N]`` of each picture: each box by its own head's deltas, one suppression for all."""
        routed = [self.routing(boxes) for boxes in proposals]
        old, new = (_select(proposals, [pair[head] for pair in routed]) for head in (0, 1))
        new = _select(new, self._prefilter(features, new, image_sizes)) if self.prefilter_score else new
        by_old = self._predict_coarse(features, old, image_sizes)
        by_new = self.fine(self.roi_reader(features, new))
        counts = [[len(boxes) for boxes in group] for group in (old, new)]
        logits, deltas = (
            _interleave(a.split(counts[0]), b.split(counts[1])) for a, b in zip(by_old, by_new, strict=True)
        )
        together = [torch.cat(pair) for pair in zip(old, new, strict=True)]
        found = self.coarse.postprocess_detections(logits, deltas, together, image_sizes)
        answers = [{"boxes": b, "scores": s, "labels": k} for b, s, k in zip(*found, strict=True)]
        return self._add_masks(answers, features, image_sizes) if self.coarse.has_mask() else answers

    def _predict_coarse(
        self, features: Features, boxes: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """What the old head says of ``boxes`` on p2 … p5: logits ``[ΣN, K+1]`` and box deltas ``[ΣN, 4(K+1)]``."""
        return self.coarse.box_predictor(self.coarse.box_head(self.coarse.box_roi_pool(features, boxes, image_sizes)))

    def _prefilter(self, features: Features, boxes: list[Tensor], image_sizes: list[tuple[int, int]]) -> list[Tensor]:
        """In which ``boxes`` the old head sees an object with a chance of at least :attr:`glance`, ``[N]`` for each picture."""
        logits, _ = self._predict_coarse(features, boxes, image_sizes)
        found = 1 - logits.softmax(dim=1)[:, 0] >= self.prefilter_score
        return list(found.split([len(b) for b in boxes]))

    def _add_masks(
        self, detections: list[Target], features: Features, image_sizes: list[tuple[int, int]]
    ) -> list[Target]:
        heads: Any = self.coarse
        pooled = heads.mask_roi_pool(features, [answer["boxes"] for answer in detections], image_sizes)
        masks = maskrcnn_inference(
            heads.mask_predictor(heads.mask_head(pooled)), [answer["labels"] for answer in detections]
        )
        return [{**answer, "masks": mask} for answer, mask in zip(detections, masks, strict=True)]


def extend_detector(
    detector: GeneralizedRCNN,
    extension: ExtendedLevel,
    routing: ExclusiveRouting | DuplicateRouting | None = None,
    make_reader: Callable[[Callable[[Features], Features]], RoIReader] = DenseReader,
    ohem_per_image: int = 128,
    prefilter_score: float = 0.0,
) -> GeneralizedRCNN:
    """EFPN around ``detector``, a Faster or Mask R-CNN whose parts it shares; the new head starts as a copy of the old box head.

    Args:
        detector: on our extractor with an FPN or PAFPN from p2 on.
        extension: what makes p2x (see `featlift.pyramids.efpn`).
        routing: by default :class:`ExclusiveRouting` at 56 px, as on TT100K; COCO's limit is 112.
        make_reader: :class:`~featlift.detectors.sparse_level.DenseReader`, or ``Windows``, which computes p2x only around small RoIs.
        ohem_per_image: small RoIs per picture that the new head learns from.
        prefilter_score: see :class:`EFPNRoIHeads`.

    Raises:
        TypeError: if the detector is none of these, or its backbone has no map of stride 2.
    """
    heads = getattr(detector, "roi_heads", None)
    if type(heads) is not RoIHeads:
        raise TypeError(
            f"EFPN extends Faster and Mask R-CNN; this {type(detector).__name__} has {type(heads).__name__} for RoI heads."
        )
    extractor = ExtendedExtractor(get_extractor(detector), extension)
    fine = nn.Sequential(copy.deepcopy(heads.box_head), copy.deepcopy(heads.box_predictor))
    finer = EFPNRoIHeads(
        heads,
        fine,
        routing or ExclusiveRouting(),
        make_reader(extractor.extended_levels),
        ohem_per_image,
        prefilter_score,
    )
    return GeneralizedRCNN(extractor, LevelSubsetRPN(detector.rpn, extractor.levels), finer, detector.transform)


def _select(values: Sequence[Tensor], keep: Sequence[Tensor]) -> list[Tensor]:
    return [value[kept] for value, kept in zip(values, keep, strict=True)]


def _interleave(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Of each picture the first's rows, then the second's."""
    return torch.cat([rows for pair in zip(first, second, strict=True) for rows in pair])
