"""Backbones: timm networks with the feature maps ``{c2 … c5}`` as outputs."""

from featlift.backbones.encoder import ImageEncoder, image_encoder
from featlift.backbones.timm_backbone import BACKBONE_LEVELS, Backbone
from featlift.backbones.weight_files import load_weights

__all__ = ["BACKBONE_LEVELS", "Backbone", "ImageEncoder", "image_encoder", "load_weights"]
