"""SRF-GAN (Lee, Lee and Choi, arXiv 2020): super-resolved features, trained against a critic in three stages.

The stages are those of AFI-GAN, which came from it, and are written there: the SRF generator and critic (Sec. 4.1, Eqs. 1 and 2), the
multi-scale SRF extractor (Sec. 4.2, Eq. 3), the target detector (Sec. 4.3). What differs is what the stages are given: a generator
of residual blocks with batch norm, a critic that ends in a 1x1 convolution, and losses on p2 … p5. Eq. 3 of this paper prints G(P_lr)
where the sizes allow only the output of M's pyramid; AFI-GAN's Eq. 3 corrects it, and so do we. SRF-GAN has no public training code.
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
    reuse: str = "M"  # Sec. 4.3 names both; its best rows replace the FPN by the whole extractor

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a small Faster R-CNN on the built-in scenes."""
        short = afi_gan.Settings.quick()
        stages = {name: getattr(short, name) for name in afi_gan.STAGES}
        adversary = replace(cls().adversarial, width=1)
        return cls(
            model=baseline.quick_detector_config("srf"),
            data=short.data,
            adversarial=adversary,
            extractor_init=short.extractor_init,
            **stages,
        )

    @classmethod
    def official(cls) -> "Settings":
        """The published AFI-GAN code's schedules and deviations with SRF-GAN's networks; SRF-GAN itself has no training code."""
        code = afi_gan.Settings.official()
        stages = {name: getattr(code, name) for name in afi_gan.STAGES}
        model = DetectorConfig(interpolator="srf", interpolator_options=code.model.interpolator_options)
        adversary = replace(code.adversarial, end=1, levels=("p2", "p3", "p4", "p5"))
        return cls(
            model=model,
            data=code.data,
            adversarial=adversary,
            downscale=code.downscale,
            extractor_init=code.extractor_init,
            reuse=code.reuse,
            **stages,
        )
