"""The zoo: Hugging Face's networks from small configurations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tests.integrations.zoo import Sizes, ZooEntry, noise, with_norm_statistics
from torch import nn

SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2,
        "out_features": ["stage1", "stage2", "stage3", "stage4"]}  # fmt: skip
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "layer_type": "basic"}


def hf_model(config_name: str, model_name: str, **options: Any) -> nn.Module:
    import transformers

    return getattr(transformers, model_name)(getattr(transformers, config_name)(**options))


def resnet_config(*stages: str) -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(**RESNET, out_features=list(stages))


def upernet() -> nn.Module:
    config = resnet_config("stage1", "stage2", "stage3", "stage4")
    return hf_model("UperNetConfig", "UperNetForSemanticSegmentation", backbone_config=config, hidden_size=16, num_labels=5,
                    use_auxiliary_head=True, auxiliary_in_channels=16, auxiliary_channels=8)  # fmt: skip


def rtdetr(config_name: str = "RTDetrConfig", model_name: str = "RTDetrForObjectDetection") -> nn.Module:
    from transformers import RTDetrResNetConfig

    backbone = RTDetrResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], layer_type="basic",
                                  out_features=["stage2", "stage3", "stage4"])  # fmt: skip
    options = {"backbone_config": backbone, "encoder_in_channels": [12, 16, 24], "encoder_hidden_dim": 16, "encoder_ffn_dim": 16,
               "encoder_attention_heads": 2, "d_model": 16, "decoder_in_channels": [16, 16, 16], "decoder_ffn_dim": 16, "num_queries": 10,
               "decoder_layers": 2, "decoder_attention_heads": 2, "anchor_image_size": None, "num_labels": 3,
               "freeze_backbone_batch_norms": False}  # fmt: skip
    return with_norm_statistics(hf_model(config_name, model_name, **options))


def mask_former(config_name: str, model_name: str, **options: Any) -> nn.Module:
    from transformers import SwinConfig

    return hf_model(config_name, model_name, backbone_config=SwinConfig(**SWIN), num_labels=4, **options)


def maskformer() -> nn.Module:
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, MaskFormerSwinConfig

    decoder = DetrConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                         encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5)  # fmt: skip
    return MaskFormerForInstanceSegmentation(
        MaskFormerConfig(
            fpn_feature_size=32,
            mask_feature_size=32,
            backbone_config=MaskFormerSwinConfig(**SWIN),
            decoder_config=decoder,
        )
    )


def detr(model_name: str) -> nn.Module:
    config = resnet_config("stage1", "stage2", "stage3", "stage4")
    return hf_model("DetrConfig", model_name, use_timm_backbone=False, use_pretrained_backbone=False, backbone_config=config, backbone=None,
                    d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=8, decoder_attention_heads=8, num_queries=5,
                    encoder_ffn_dim=16, decoder_ffn_dim=16)  # fmt: skip


def deformable_detr() -> nn.Module:
    config = resnet_config("stage2", "stage3", "stage4")
    return hf_model("DeformableDetrConfig", "DeformableDetrForObjectDetection", use_timm_backbone=False, use_pretrained_backbone=False,
                    backbone_config=config, backbone=None, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
                    decoder_attention_heads=2, num_queries=5, encoder_ffn_dim=16, decoder_ffn_dim=16)  # fmt: skip


def dpt(model_name: str) -> nn.Module:
    return hf_model("DPTConfig", model_name, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
                    image_size=64,
                    patch_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 12, 16, 16], fusion_hidden_size=16,
                    num_labels=5)  # fmt: skip


def depth_anything() -> nn.Module:
    from transformers import Dinov2Config

    backbone = Dinov2Config(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=1, image_size=56, patch_size=14,
                            out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False)  # fmt: skip
    return hf_model("DepthAnythingConfig", "DepthAnythingForDepthEstimation", backbone_config=backbone, reassemble_hidden_size=16,
                    neck_hidden_sizes=[8, 12, 16, 16], fusion_hidden_size=16, head_hidden_size=8)  # fmt: skip


def segformer() -> nn.Module:
    return hf_model("SegformerConfig", "SegformerForSemanticSegmentation", hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1],
                    num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16, num_labels=4)  # fmt: skip


def oneformer_inputs(size: tuple[int, int]) -> dict[str, Any]:
    return {"pixel_values": noise(size), "task_inputs": torch.zeros(1, 77, dtype=torch.long)}


def pixel_values(size: tuple[int, int]) -> dict[str, Any]:
    return {"pixel_values": noise(size)}


def entry(name: str, build: Callable[[], nn.Module], steps: int, neck: str = "", source: str = "", note: str = "", *,
          sizes: Sizes = ZooEntry.sizes, make_inputs: Callable[[tuple[int, int]], Any] = pixel_values) -> ZooEntry:  # fmt: skip
    return ZooEntry(name, "transformers", "transformers", build, steps, neck, sizes, make_inputs, source, note)


MASK2FORMER = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "encoder_layers": 1,
               "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 16, "num_queries": 5}  # fmt: skip
ONEFORMER = {"conv_dim": 32, "mask_dim": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "encoder_layers": 1, "decoder_layers": 2,
             "num_attention_heads": 2, "dim_feedforward": 16, "num_queries": 5, "is_training": False}  # fmt: skip
YOLOS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": [64, 64],
         "num_detection_tokens": 5}  # fmt: skip
DINO_SIZES = ((56, 56), (112, 112), (56, 112), (84, 140), (140, 84))
DPT_SIZES = ((64, 64), (80, 80), (96, 96), (113, 113), (150, 150))
UPERNET_SIZES = ((384, 384), (64, 64), (96, 160), (128, 192), (224, 224))
SQUARE = "it takes square images only"
rtdetr_v2 = partial(rtdetr, "RTDetrV2Config", "RTDetrV2ForObjectDetection")
d_fine = partial(rtdetr, "DFineConfig", "DFineForObjectDetection")
mask2former = partial(mask_former, "Mask2FormerConfig", "Mask2FormerForUniversalSegmentation", **MASK2FORMER)
oneformer = partial(mask_former, "OneFormerConfig", "OneFormerForUniversalSegmentation", **ONEFORMER)
yolos = partial(hf_model, "YolosConfig", "YolosForObjectDetection", **YOLOS)
DECODER, FUSION = "model.pixel_level_module.decoder", "neck.fusion_stage.layers"

ENTRIES = (
    entry("RT-DETR", rtdetr, 2, "model.encoder", "`RTDetrHybridEncoder`"),
    entry("RT-DETRv2", rtdetr_v2, 2, "model.encoder", "`RTDetrV2HybridEncoder`"),
    entry("D-FINE", d_fine, 2, "model.encoder", "`DFineHybridEncoder`"),
    entry("Mask2Former", mask2former, 1, DECODER, "`Mask2FormerPixelDecoder`"),
    entry("OneFormer", oneformer, 1, DECODER, "`OneFormerPixelDecoder`", make_inputs=oneformer_inputs),
    entry("MaskFormer", maskformer, 3, f"{DECODER}.fpn.layers", "`MaskFormerFPNLayer`"),
    entry("SegFormer", segformer, 1, "decode_head", "`SegformerDecodeHead`", "its only factor of 2; the others are 4 and 8"),
    entry("DETR segmentation", partial(detr, "DetrForSegmentation"), 3, "mask_head.fpn_stages", "`DetrFPNFusionStage`"),
    entry("Depth Anything", depth_anything, 4, FUSION, "`DepthAnythingFeatureFusionLayer`", sizes=DINO_SIZES),
    entry("DPT segmentation", partial(dpt, "DPTForSemanticSegmentation"), 4, FUSION, "`DPTFeatureFusionLayer`",
          f"its class logits stay; {SQUARE}", sizes=DPT_SIZES),
    entry("DPT depth", partial(dpt, "DPTForDepthEstimation"), 5, "", "`DPTFeatureFusionLayer`, `DPTDepthEstimationHead`",
          f"4 of the fusion and 1 in the head, before two convolutions; {SQUARE}", sizes=DPT_SIZES),
    entry("UperNet", upernet, 4, "decode_head", "`UperNetHead`", "3 of the pyramid and 1 of the fusion", sizes=UPERNET_SIZES),
    entry("DETR", partial(detr, "DetrForObjectDetection"), 0),
    entry("Deformable DETR", deformable_detr, 0),
    entry("YOLOS", yolos, 0),
)  # fmt: skip
