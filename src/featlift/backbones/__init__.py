"""Backbones: any timm network as ``{c2 … c5}``."""

from featlift.backbones.timm_backbone import BACKBONE_LEVELS, Backbone, ImageEncoder, image_encoder, load_weights

__all__ = ["BACKBONE_LEVELS", "Backbone", "ImageEncoder", "image_encoder", "load_weights"]
