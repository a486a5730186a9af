"""AFI-GAN (Lee and Bae, Pattern Recognition 2023): adversarial training of a feature interpolator in three stages.

F is the frozen target extractor, G the interpolator, D the discriminator, M the detector whose pyramid is the multi-scale extractor (with
G as its interpolator), T the target detector. Stage 1 trains G and D with F as teacher (Sec. 4.1), stage 2 trains M at half the resolution
with F at full resolution as teacher (Sec. 4.2), stage 3 trains T, initialized from stages 1 and 2 (Sec. 4.3).

Defaults follow the paper's text. Where the published code differs there is an option, and :meth:`Settings.official` sets all options as in
the code; `docs/papers/afi_gan.md` lists them.
"""

from featlift.papers.afi_gan.settings import Settings
from featlift.papers.afi_gan.training import train

__all__ = ["Settings", "train"]
