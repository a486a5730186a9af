"""SRF-GAN (Lee, Lee and Choi, arXiv 2020): adversarial training of super-resolved features in three stages.

AFI-GAN is its successor and has the same stages, which are implemented in `featlift.papers.afi_gan`: the SRF generator and discriminator
(Sec. 4.1, Eqs. (1) and (2)), the multi-scale SRF extractor (Sec. 4.2, Eq. (3)), the target detector (Sec. 4.3). SRF-GAN differs in its
generator of residual blocks with batch norm, a discriminator that ends in a 1x1 convolution, and losses on p2 … p5. Its Eq. (3) prints
G(P_lr) where the sizes allow only the output of M's pyramid; FeatLift follows AFI-GAN's Eq. (3), which corrects this. SRF-GAN has no public
training code.
"""

from dataclasses import dataclass, field, replace

from featlift.papers import afi_gan, baseline
from featlift.papers.afi_gan import AdversarialConfig
from featlift.papers.baseline import DetectorConfig

STAGES = afi_gan.STAGES
train = afi_gan.train


@dataclass(frozen=True)
class Settings(afi_gan.Settings):
    """AFI-GAN's settings with SRF-GAN's networks and levels (Sec. 4.1); attributes are those of `afi_gan.Settings`."""

    model: DetectorConfig = field(default_factory=lambda: DetectorConfig(interpolator="srf"))
    adversarial: AdversarialConfig = field(
        default_factory=lambda: AdversarialConfig(last_kernel=1, levels=("p2", "p3", "p4", "p5"))
    )
    reuse: str = "M"  # Sec. 4.3 describes both; its best results reuse the whole extractor

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a small Faster R-CNN on synthetic scenes."""
        quick = afi_gan.Settings.quick()
        stages = {name: getattr(quick, name) for name in afi_gan.STAGES}
        return cls(
            model=baseline.quick_detector_config("srf"),
            data=quick.data,
            adversarial=replace(cls().adversarial, width=1),
            extractor_init=quick.extractor_init,
            **stages,
        )

    @classmethod
    def official(cls) -> "Settings":
        """Schedules and deviations of the published AFI-GAN code with SRF-GAN's networks; SRF-GAN itself has no training code."""
        code = afi_gan.Settings.official()
        stages = {name: getattr(code, name) for name in afi_gan.STAGES}
        model = DetectorConfig(interpolator="srf", interpolator_options=code.model.interpolator_options)
        return cls(
            model=model,
            data=code.data,
            adversarial=replace(code.adversarial, last_kernel=1, levels=("p2", "p3", "p4", "p5")),
            downscale=code.downscale,
            extractor_init=code.extractor_init,
            reuse=code.reuse,
            **stages,
        )
