"""Distillation of light interpolators from heavy ones (not a paper's method), for the cost named in SRF-GAN's and AFI-GAN's conclusions.

F are trained, frozen extractors, G the light interpolator, T the target detector. The distillation needs images but no labels and has two
losses: G should reproduce the outputs of F's own interpolators on the same maps (same resolution), and F's pyramid of the image at twice
the size (cross resolution; AFI-GAN's stage 1 without its discriminator). Then T, with G in its pyramid, is fine-tuned.

G may be distilled from several F at once. With the channel-agnostic interpolator their pyramids may have different numbers of channels,
and the result can be used in a pyramid with yet another number (``interpolator_from``).
"""

from featlift.papers.light.settings import Settings
from featlift.papers.light.training import train

__all__ = ["Settings", "train"]
