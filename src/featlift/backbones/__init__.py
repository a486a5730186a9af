"""Backbones: any timm network as ``{c2 … c5}``."""

from featlift.backbones.timm_backbone import LEVELS, Backbone, Encoder, encoder, load_weights

__all__ = ["LEVELS", "Backbone", "Encoder", "encoder", "load_weights"]
