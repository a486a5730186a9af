"""Small networks of Hugging Face's transformers with random weights."""

from torch import nn


def rt_detr() -> nn.Module:
    """An RT-DETR for three classes with 60,000 parameters; maps of strides 8, 16 and 32."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    sizes = [8, 8, 16, 16]
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=sizes,
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=sizes[1:],
        encoder_hidden_dim=16,
        decoder_in_channels=[16] * 3,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=10,
        num_labels=3,
        num_denoising=0,
    )
    return RTDetrForObjectDetection(config)
