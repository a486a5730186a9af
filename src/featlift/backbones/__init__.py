"""Backbones: timm networks with the feature maps ``{c2 … c5}`` as outputs."""

from featlift.backbones.timm_backbone import BACKBONE_LEVELS, Backbone, ImageEncoder, image_encoder, load_weights

__all__ = ["BACKBONE_LEVELS", "Backbone", "ImageEncoder", "image_encoder", "load_weights"]
