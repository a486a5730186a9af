"""FSR-GAN (Tan, Yan and Bare, CVPR 2018): super-resolution of the descriptors of low-resolution queries.

F is the frozen embedder (Sec. 3.1), G the generator, D the discriminator (a critic for the Wasserstein losses, Sec. 3.3). G is applied to
queries only: the gallery is embedded at full resolution, so existing indexes keep working. F is frozen, so the descriptors of all images at
all ratios are computed first and cached on disk; training uses descriptors only and takes minutes.

The defaults are the recommended settings; :meth:`Settings.paper` follows the text. `docs/papers/fsr_gan.md` explains the differences.
"""

from featlift.papers.fsr_gan.settings import Settings
from featlift.papers.fsr_gan.training import train

__all__ = ["Settings", "train"]
