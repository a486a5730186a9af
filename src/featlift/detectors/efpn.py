"""EFPN's detector (Sec. III-A, IV): a detector that exists, with a finer level for its small RoIs and a head of their own.

:func:`extend` turns a Faster or Mask R-CNN into one. The proposals come from p2 … p6 as before: its RPN never sees the finer level. RoIs
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
from featlift.detectors.extractor import Extractor, extractor_of
from featlift.detectors.sparse_level import Reader, WholeMap
from featlift.features import Features
from featlift.losses import box_losses, hardest
from featlift.pyramids.efpn import Extension
from featlift.pyramids.fpn import FPN

TT100K_LIMIT, COCO_LIMIT = 56.0, 112.0
Target = dict[str, Tensor]


class ExtendedExtractor(nn.Module):
    """An extractor that also gives what the finer level is made from, and makes it.

    Args:
        extractor: with an FPN or PAFPN that begins at p2, on a backbone of the ResNet or EfficientNet family; its weights are shared.
        extension: inner3, inner2, c2x → p3x, p2x.

    Raises:
        TypeError: if the pyramid has no top-down maps to extend, or the backbone no map of stride 2.
    """

    def __init__(self, extractor: Extractor, extension: Extension):
        super().__init__()
        self.backbone, self.pyramid, self.extension = extractor.backbone, extractor.pyramid, extension
        if not isinstance(self.pyramid, FPN) or extractor.levels[0] != "p2":
            raise TypeError(
                f"EFPN extends an FPN or PAFPN that begins at p2; this extractor has a {type(self.pyramid).__name__} that begins at "
                f"{extractor.levels[0]}. Use faster-rcnn or mask-rcnn on 'fpn' or 'pafpn'."
            )
        stride2.stem(self.backbone.network)
        self.levels, self.out_channels, self.divisible = extractor.levels, extractor.out_channels, extractor.divisible

    @property
    def mean(self) -> Tensor:
        """The colour ``[1, 3, 1, 1]`` in 0…1 that becomes zero inside the backbone."""
        return self.backbone.mean  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{"p2": [B, C, H/4, W/4], …}``, and ``inner3``, ``inner2``, ``c1`` (strides 8, 4, 2)."""
        maps = self.backbone(image)
        inner = self.pyramid.inner_maps(maps)  # type: ignore[operator]
        found = self.pyramid.outputs(maps, inner)  # type: ignore[operator]
        return {**found, "inner3": inner[1], "inner2": inner[0], "c1": self.backbone.stem(image)}  # type: ignore[operator]

    def extended(self, features: Features) -> Features:
        """``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}`` from what :meth:`forward` gave, or from windows of it."""
        c2x = self.backbone.unpooled(features["c1"])  # type: ignore[operator]
        return self.extension(features["inner3"], features["inner2"], c2x)


class Seeing(nn.Module):
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
class Exclusive:
    """The paper's routing: RoIs with √(w·h) below ``limit`` px go to p2x alone, the others to p2 … p5 (Eq. 2 with one level more)."""

    limit: float = TT100K_LIMIT

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, 4]`` xyxy in px of the resized picture → which go to the old head, which to the new one, both ``[N]``."""
        small = _sides(boxes) < self.limit
        return ~small, small


@dataclass(frozen=True)
class Duplicate:
    """The release's routing when it detects: small RoIs are judged by both heads, from p2 and from p2x."""

    limit: float = TT100K_LIMIT

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Exclusive.__call__`; the first answer is all of them."""
        small = _sides(boxes) < self.limit
        return torch.ones_like(small), small


def _sides(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()


class TwoHeads(nn.Module):
    """RoI heads with a second box head, for small RoIs, on p2x.

    In training it gives the losses of the *new* head alone, from the ``hard`` hardest small RoIs a picture (OHEM): that is what EFPN's
    last phase learns, all else having been trained before. Masks, where there are any, are drawn from p2 … p5 by the old mask head.

    Args:
        coarse: the old heads.
        fine: box head and predictor of small RoIs, ``[N, C, 7, 7]`` → logits ``[N, K+1]`` and box deltas ``[N, 4(K+1)]``.
        routing: which RoIs are small: :class:`Exclusive` or :class:`Duplicate`.
        reader: how p2x is read at small RoIs: :class:`~featlift.detectors.sparse_level.WholeMap` or ``Windows``.
        hard: RoIs that are learned from, per picture.
        glance: a small RoI in which the old head, on p2, sees an object with less than this chance is not looked at on p2x when
            detecting; 0 looks at all (the paper). Most proposals are background, and windows are needed only where some are left.
    """

    def __init__(
        self,
        coarse: RoIHeads,
        fine: nn.Module,
        routing: Exclusive | Duplicate,
        reader: Reader,
        hard: int = 128,
        glance: float = 0.0,
    ):
        super().__init__()
        self.coarse, self.fine = coarse, fine
        self.routing, self.reader, self.hard, self.glance = routing, reader, hard, glance

    def forward(
        self,
        features: Features,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Maps ``[B, C, H, W]`` by level, proposals ``[N, 4]``, sizes, targets → detections and losses, as torchvision's heads."""
        if self.training:
            return [], self.losses(features, proposals, targets)
        return self.detections(features, proposals, image_shapes), {}

    def losses(self, features: Features, proposals: list[Tensor], targets: list[Target] | None) -> dict[str, Tensor]:
        """The new head's classification and box loss; RoIs are sampled as ever (512, a quarter of them objects), the small ones taken.

        Both are 0, with a graph, where no RoI is small.
        """
        sampled, _, labels, deltas = self.coarse.select_training_samples(proposals, targets)
        small = [self.routing(boxes)[1] for boxes in sampled]
        logits, offsets = self.fine(self.reader(features, _chosen(sampled, small)))
        truth = torch.cat(_chosen(labels, small))
        classification, box = box_losses(logits, offsets, truth, torch.cat(_chosen(deltas, small)))
        kept = hardest(classification, box, truth, self.hard * len(sampled))
        share = 1 / max(1, len(kept))
        return {"loss_classifier": classification[kept].sum() * share, "loss_box_reg": box[kept].sum() * share}

    def detections(self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Target]:
        """Boxes ``[N, 4]``, labels and scores ``[N]`` of each picture: each box by its own head's deltas, one suppression for all."""
        routed = [self.routing(boxes) for boxes in proposals]
        old, new = (_chosen(proposals, [pair[head] for pair in routed]) for head in (0, 1))
        new = _chosen(new, self._promising(features, new, sizes)) if self.glance else new
        by_old = self._by_old(features, old, sizes)
        by_new = self.fine(self.reader(features, new))
        counts = [[len(boxes) for boxes in group] for group in (old, new)]
        logits, deltas = (
            _alternating(a.split(counts[0]), b.split(counts[1])) for a, b in zip(by_old, by_new, strict=True)
        )
        together = [torch.cat(pair) for pair in zip(old, new, strict=True)]
        found = self.coarse.postprocess_detections(logits, deltas, together, sizes)
        answers = [{"boxes": b, "scores": s, "labels": k} for b, s, k in zip(*found, strict=True)]
        return self._drawn(answers, features, sizes) if self.coarse.has_mask() else answers

    def _by_old(self, features: Features, boxes: list[Tensor], sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """What the old head says of ``boxes`` on p2 … p5: logits ``[ΣN, K+1]`` and box deltas ``[ΣN, 4(K+1)]``."""
        return self.coarse.box_predictor(self.coarse.box_head(self.coarse.box_roi_pool(features, boxes, sizes)))

    def _promising(self, features: Features, boxes: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
        """In which ``boxes`` the old head sees an object with a chance of at least :attr:`glance`, ``[N]`` for each picture."""
        logits, _ = self._by_old(features, boxes, sizes)
        found = 1 - logits.softmax(dim=1)[:, 0] >= self.glance
        return list(found.split([len(b) for b in boxes]))

    def _drawn(self, answers: list[Target], features: Features, sizes: list[tuple[int, int]]) -> list[Target]:
        heads: Any = self.coarse
        pooled = heads.mask_roi_pool(features, [answer["boxes"] for answer in answers], sizes)
        masks = maskrcnn_inference(
            heads.mask_predictor(heads.mask_head(pooled)), [answer["labels"] for answer in answers]
        )
        return [{**answer, "masks": mask} for answer, mask in zip(answers, masks, strict=True)]


def extend(
    detector: GeneralizedRCNN,
    extension: Extension,
    routing: Exclusive | Duplicate | None = None,
    read: Callable[[Callable[[Features], Features]], Reader] = WholeMap,
    hard: int = 128,
    glance: float = 0.0,
) -> GeneralizedRCNN:
    """EFPN around ``detector``, a Faster or Mask R-CNN whose parts it shares; the new head starts as a copy of the old box head.

    Args:
        detector: on our extractor with an FPN or PAFPN from p2 on.
        extension: what makes p2x (see `featlift.pyramids.efpn`).
        routing: by default :class:`Exclusive` at 56 px, as on TT100K; COCO's limit is 112.
        read: :class:`~featlift.detectors.sparse_level.WholeMap`, or ``Windows``, which computes p2x only around small RoIs.
        hard: small RoIs per picture that the new head learns from.
        glance: see :class:`TwoHeads`.

    Raises:
        TypeError: if the detector is none of these, or its backbone has no map of stride 2.
    """
    heads = getattr(detector, "roi_heads", None)
    if type(heads) is not RoIHeads:
        raise TypeError(
            f"EFPN extends Faster and Mask R-CNN; this {type(detector).__name__} has {type(heads).__name__} for RoI heads."
        )
    extractor = ExtendedExtractor(extractor_of(detector), extension)
    fine = nn.Sequential(copy.deepcopy(heads.box_head), copy.deepcopy(heads.box_predictor))
    finer = TwoHeads(heads, fine, routing or Exclusive(), read(extractor.extended), hard, glance)
    return GeneralizedRCNN(extractor, Seeing(detector.rpn, extractor.levels), finer, detector.transform)


def _chosen(values: Sequence[Tensor], keep: Sequence[Tensor]) -> list[Tensor]:
    return [value[kept] for value, kept in zip(values, keep, strict=True)]


def _alternating(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Of each picture the first's rows, then the second's."""
    return torch.cat([rows for pair in zip(first, second, strict=True) for rows in pair])
