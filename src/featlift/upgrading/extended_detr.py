"""The extended level of RT-DETR (Zhao et al., CVPR 2024) and D-FINE (Peng et al., ICLR 2025) as in Hugging Face transformers.

The encoder's three maps of the enlarged image have strides 4, 8, 16; the detector's own decoder selects its queries from them and samples
them. Its small boxes are added to the plain ones; of two that overlap, the one with the lower score is removed, since these
detectors have no non-maximum suppression.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from featlift.upgrading.extended_detector import ExtendedDetector
from featlift.upgrading.extended_duplicates import find_duplicates
from featlift.upgrading.extended_family import LevelPredictions, PlainMapNames, box_sizes, plain_maps

NEVER = -1e4
"""Logit of a query that is not used."""


class ExtendedDETR(ExtendedDetector):
    """``…ForObjectDetection`` with the queries of a second decoder pass on finer maps, which are global: there are no windows."""

    has_windows = False

    def merge_level(self, outputs: Any) -> Any:
        """``logits [B, N, K]`` and ``pred_boxes [B, N, 4]`` (center, sides, 0…1) → twice as many queries."""
        if not hasattr(outputs, "pred_boxes"):
            raise RuntimeError("The extended level needs outputs with names: call the model with return_dict=True.")
        image = plain_maps(self.level_map_names).image
        maps = self.compute_level()
        added = self.original_class.forward(self, None, encoder_outputs=(maps,), inputs_embeds=maps[0])
        scale = image.new_tensor([image.shape[-1], image.shape[-2]] * 2)
        boxes = [box_convert(one.pred_boxes, "cxcywh", "xyxy") * scale for one in (outputs, added)]
        best = [one.logits.max(-1) for one in (outputs, added)]
        is_large = box_sizes(boxes[1]) >= self.level_max_size
        scores = (best[0].values, best[1].values.masked_fill(is_large, NEVER))
        duplicates = find_duplicates((boxes[0], boxes[1]), scores, (best[0].indices, best[1].indices))
        logits = [
            outputs.logits.masked_fill(duplicates[0][..., None], NEVER),
            added.logits.masked_fill((duplicates[1] | is_large)[..., None], NEVER),
        ]
        outputs.logits = torch.cat(logits, 1)
        outputs.pred_boxes = torch.cat([outputs.pred_boxes, added.pred_boxes], 1)
        return outputs


class DETRFamily:
    """RT-DETR and D-FINE of Hugging Face; implements :class:`~featlift.upgrading.extended_family.LevelFamily`."""

    name = "Hugging Face's RT-DETR and D-FINE"
    mixin = ExtendedDETR

    def matches(self, model: nn.Module) -> bool:
        """Whether ``model`` has a hybrid encoder of three maps, and a backbone in stages."""
        inner: Any = getattr(model, "model", None)
        has_encoder = len(getattr(inner, "encoder_input_proj", ())) == 3 and hasattr(inner.encoder, "fpn_blocks")
        stages = getattr(
            getattr(getattr(getattr(inner, "backbone", None), "model", None), "encoder", None), "stages", ()
        )
        return has_encoder and len(stages) == 4 and getattr(inner.config, "anchor_image_size", None) is None

    def map_names(self, model: nn.Module) -> PlainMapNames:
        """The image, the projection of c5, and at stride 16 that of c4 and the encoder's map."""
        projections = "model.encoder_input_proj"
        return PlainMapNames("model.backbone", f"{projections}.2", (f"{projections}.1", "model.encoder.pan_blocks.0"))

    def run_features(self, model: Any, image: Tensor) -> object:
        """Run backbone and encoder."""
        mask = image.new_ones(image.shape[0], *image.shape[-2:])
        inner = model.model
        features = inner.backbone(image, mask)
        maps = [
            project(one[0] if isinstance(one, tuple) else one)
            for project, one in zip(inner.encoder_input_proj, features, strict=True)
        ]
        return list(inner.encoder(maps).last_hidden_state)

    def run_head(self, model: Any, features: Any) -> object:
        """Run the decoder."""
        original = getattr(model, "original_class", type(model))
        return original.forward(model, None, encoder_outputs=(list(features),), inputs_embeds=features[0])

    def early_maps(self, model: Any, image: Tensor) -> list[Tensor]:
        """Projection of c3, c4, and projection of c4."""
        backbone, projections = model.model.backbone.model, model.model.encoder_input_proj
        x = backbone.embedder(image)
        maps = []
        for stage in backbone.encoder.stages[:-1]:
            x = stage(x)
            maps.append(x)
        return [projections[0](maps[-2]), maps[-1], projections[1](maps[-1])]

    def coarse_map(self, model: Any, early: Sequence[Tensor]) -> Tensor:
        """Projection of c5."""
        return model.model.encoder_input_proj[2](model.model.backbone.model.encoder.stages[-1](early[1]))

    def finest_maps(self, model: Any, early: Sequence[Tensor], coarse: Tensor) -> list[Tensor]:
        """The encoder's three maps."""
        return list(model.model.encoder([early[0], early[2], coarse]).last_hidden_state)

    def predict(self, model: Any, maps: Sequence[Tensor], image_size: tuple[int, int]) -> LevelPredictions:
        """What the head from which the queries are selected says of every cell of the three maps."""
        inner = model.model
        sources = [project(one) for project, one in zip(inner.decoder_input_proj, maps, strict=False)]
        shapes = tuple((one.shape[-2], one.shape[-1]) for one in sources)
        memory = torch.cat([one.flatten(2).transpose(1, 2) for one in sources], 1)
        anchors, is_valid = inner.generate_anchors(shapes, device=memory.device, dtype=memory.dtype)
        memory = inner.enc_output(is_valid.to(memory.dtype) * memory)
        boxes = box_convert((inner.enc_bbox_head(memory) + anchors).sigmoid(), "cxcywh", "xyxy")
        height, width = image_size
        return LevelPredictions(boxes * boxes.new_tensor([width, height, width, height]), inner.enc_score_head(memory))

    def to_input(self, model: nn.Module, images: Tensor) -> Tensor:
        """RGB in 0…1, as the published image processors give it."""
        return images
