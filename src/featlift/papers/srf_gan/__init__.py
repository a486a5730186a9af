"""SRF-GAN (Lee and Bae, arXiv 2020): adversarial training of super-resolved features in three stages.

AFI-GAN is its successor and has the same stages, which are implemented in `featlift.papers.afi_gan`: the SRF generator and discriminator
(Sec. 4.1, Eqs. (1) and (2)), the multi-scale SRF extractor (Sec. 4.2, Eq. (3)), the target detector (Sec. 4.3). SRF-GAN differs in its
generator of residual blocks with batch norm, a discriminator that ends in a 1x1 convolution, and losses on p2 … p5. Its Eq. (3) prints
G(P_lr) where the sizes allow only the output of M's pyramid; FeatLift follows AFI-GAN's Eq. (3), which corrects this. SRF-GAN has no public
training code.
"""

from featlift.papers.afi_gan.training import train
from featlift.papers.srf_gan.settings import Settings

__all__ = ["Settings", "train"]
