"""FDSR (Wang et al., "Feature-driven super-resolution for object detection", ICIP 2020): image super-resolution for detection.

G is the super-resolution network, F the frozen backbone of a detector (F_ext of Sec. 2.2), T a detector. G is trained on images downscaled
4x, with half the L1 distance of the pixels and the mean squared distance of F's features, Eqs. (1) to (3). F is not needed at test time:
any detector takes the upscaled image.

No code was published. `docs/papers/fdsr.md` lists the choices where the paper is ambiguous (means or sums, squared or not, which layer).
Two later methods are options of the same training step: TDSR's detection loss (``LossWeights.detection``) and SR4IR's alternating training
of the detector (``Settings.detector_optimizer``).
"""

from featlift.papers.fdsr.settings import Settings
from featlift.papers.fdsr.training import train

__all__ = ["Settings", "train"]
