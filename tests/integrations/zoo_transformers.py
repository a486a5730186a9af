"""The zoo: Hugging Face's networks from small configurations."""

from functools import partial
from typing import Any

import torch
from tests.integrations.zoo import ZooEntry, noise
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
               "decoder_layers": 2, "decoder_attention_heads": 2, "anchor_image_size": None, "num_labels": 3}  # fmt: skip
    return hf_model(config_name, model_name, **options)


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


HF = partial(ZooEntry, package="transformers", module="transformers", make_inputs=pixel_values)
MASK2FORMER = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "encoder_layers": 1,
               "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 16, "num_queries": 5}  # fmt: skip
ONEFORMER = {"conv_dim": 32, "mask_dim": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "encoder_layers": 1, "decoder_layers": 2,
             "num_attention_heads": 2, "dim_feedforward": 16, "num_queries": 5, "is_training": False}  # fmt: skip
DINO_SIZES = ((56, 56), (112, 112), (56, 112), (84, 140), (140, 84))

ENTRIES = (
    HF(
        name="RT-DETR",
        build=rtdetr,
        source="`RTDetrHybridEncoder`",
        steps=2,
        neck="model.encoder",
    ),
    HF(
        name="RT-DETRv2",
        build=partial(rtdetr, "RTDetrV2Config", "RTDetrV2ForObjectDetection"),
        source="`RTDetrV2HybridEncoder`",
        steps=2,
        neck="model.encoder",
    ),
    HF(
        name="D-FINE",
        build=partial(rtdetr, "DFineConfig", "DFineForObjectDetection"),
        source="`DFineHybridEncoder`",
        steps=2,
        neck="model.encoder",
    ),
    HF(
        name="Mask2Former",
        build=partial(mask_former, "Mask2FormerConfig", "Mask2FormerForUniversalSegmentation", **MASK2FORMER),
        source="`Mask2FormerPixelDecoder`",
        steps=1,
        neck="model.pixel_level_module.decoder",
    ),
    HF(
        name="OneFormer",
        build=partial(mask_former, "OneFormerConfig", "OneFormerForUniversalSegmentation", **ONEFORMER),
        source="`OneFormerPixelDecoder`",
        steps=1,
        neck="model.pixel_level_module.decoder",
        make_inputs=oneformer_inputs,
    ),
    HF(
        name="MaskFormer",
        build=maskformer,
        source="`MaskFormerFPNLayer`",
        steps=3,
        neck="model.pixel_level_module.decoder.fpn.layers",
    ),
    HF(
        name="SegFormer",
        build=segformer,
        source="`SegformerDecodeHead`",
        steps=1,
        neck="decode_head",
        note="its only factor of 2; the others are 4 and 8",
    ),
    HF(
        name="DETR segmentation",
        build=partial(detr, "DetrForSegmentation"),
        source="`DetrFPNFusionStage`",
        steps=3,
        neck="mask_head.fpn_stages",
    ),
    HF(
        name="Depth Anything",
        build=depth_anything,
        source="`DepthAnythingFeatureFusionLayer`",
        steps=4,
        neck="neck.fusion_stage.layers",
        sizes=DINO_SIZES,
    ),
    HF(
        name="DPT segmentation",
        build=partial(dpt, "DPTForSemanticSegmentation"),
        sizes=((64, 64),),
        source="`DPTFeatureFusionLayer`",
        steps=4,
        neck="neck.fusion_stage.layers",
        note="its class logits stay",
    ),
    HF(
        name="DPT depth",
        build=partial(dpt, "DPTForDepthEstimation"),
        sizes=((64, 64),),
        source="`DPTFeatureFusionLayer`, `DPTDepthEstimationHead`",
        steps=5,
        note="4 of the fusion and 1 in the head, before two convolutions",
    ),
    HF(
        name="UperNet",
        build=upernet,
        source="`UperNetHead`",
        steps=4,
        neck="decode_head",
        sizes=((384, 384), (64, 64), (96, 160), (128, 192), (224, 224)),
        note="3 of the pyramid and 1 of the fusion",
    ),
    HF(name="DETR", build=partial(detr, "DetrForObjectDetection"), steps=0),
    HF(name="Deformable DETR", build=deformable_detr, steps=0),
    HF(
        name="YOLOS",
        build=partial(
            hf_model,
            "YolosConfig",
            "YolosForObjectDetection",
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=[64, 64],
            num_detection_tokens=5,
        ),
        steps=0,
    ),
)
