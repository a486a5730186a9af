"""Baseline detector: any interpolator in any pyramid, trained with the detection losses alone.

The papers' methods start from it and are compared with it; it is also stage 3 of SRF-GAN and AFI-GAN. Defaults are the papers' 1x schedule
(Detectron2's): 90,000 steps of 16 images, learning rate 0.02, times 0.1 after 60,000 and 80,000 steps, short sides of 640 … 800 px.
"""

from featlift.baseline.settings import Settings
from featlift.baseline.training import train, train_detector

__all__ = ["Settings", "train", "train_detector"]
