"""Settings of SRF-GAN: those of AFI-GAN with SRF-GAN's networks and levels."""

from dataclasses import dataclass, field, replace

from featlift.detectors.config import DetectorConfig, finetune_detector_config, quick_detector_config
from featlift.papers import afi_gan
from featlift.papers.afi_gan.settings import STAGES, AdversarialConfig


@dataclass(frozen=True)
class Settings(afi_gan.Settings):
    """AFI-GAN's settings with SRF-GAN's networks and levels (Sec. 4.1); attributes are those of `afi_gan.Settings`."""

    model: DetectorConfig = field(default_factory=lambda: DetectorConfig(interpolator="srf"))
    adversarial: AdversarialConfig = field(
        default_factory=lambda: AdversarialConfig(last_kernel=1, levels=("p2", "p3", "p4", "p5"))
    )
    reuse: str = "M"  # Sec. 4.3 describes both; its best results reuse the whole extractor

    @classmethod
    def finetune(cls) -> "Settings":
        """One's own images on one GPU: Faster R-CNN on a pretrained ResNet-50; M and T start from F."""
        ours = afi_gan.Settings.finetune()
        stages = {name: getattr(ours, name) for name in STAGES}
        return cls(
            model=finetune_detector_config("srf"),
            data=ours.data,
            extractor_init=ours.extractor_init,
            target_init=ours.target_init,
            **stages,
        )

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a small Faster R-CNN on synthetic scenes."""
        quick = afi_gan.Settings.quick()
        stages = {name: getattr(quick, name) for name in STAGES}
        return cls(
            model=quick_detector_config("srf"),
            data=quick.data,
            adversarial=replace(cls().adversarial, width=1),
            extractor_init=quick.extractor_init,
            **stages,
        )

    @classmethod
    def official(cls) -> "Settings":
        """Schedules and deviations of the published AFI-GAN code with SRF-GAN's networks; SRF-GAN itself has no training code."""
        code = afi_gan.Settings.official()
        stages = {name: getattr(code, name) for name in STAGES}
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
