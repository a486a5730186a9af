"""Settings of the baseline training."""

from dataclasses import dataclass, field

from featlift.data.config import DataConfig, finetune_data_config, quick_data_config
from featlift.detectors.config import (
    DetectorConfig,
    finetune_detector_config,
    quick_detector_config,
    resnest_detector_config,
    swin_detector_config,
)
from featlift.training.schedules import (
    STEPS_1X,
    STEPS_3X,
    StageConfig,
    adamw_3x,
    finetune_optimizer,
    quick_optimizer,
    sgd_1x,
)


@dataclass(frozen=True)
class Settings:
    """Training of the baseline detector; the defaults are Mask R-CNN R50-FPN on the 1x schedule.

    Attributes:
        model: Detector.
        data: Images, sizes and batch size.
        train: Steps and optimizer.
        init_from: Run folder or detector file; tensors of equal name and shape are copied before training. Empty for none.
    """

    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: StageConfig = field(default_factory=lambda: StageConfig(STEPS_1X, sgd_1x()))
    init_from: str = ""

    @classmethod
    def finetune(cls) -> "Settings":
        """One's own images on one GPU: Faster R-CNN on a pretrained ResNet-50."""
        return cls(
            model=finetune_detector_config(),
            data=finetune_data_config(),
            train=StageConfig(10_000, finetune_optimizer()),
        )

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a small Faster R-CNN on synthetic scenes, a few minutes on two cores."""
        return cls(model=quick_detector_config(), data=quick_data_config(), train=StageConfig(600, quick_optimizer()))

    @classmethod
    def dense(cls) -> "Settings":
        """The papers' RetinaNet, FCOS and CenterMask: half the learning rate (choose the detector with ``--model.detector``)."""
        return cls(model=DetectorConfig(detector="retinanet"), train=StageConfig(STEPS_1X, sgd_1x(lr=0.01)))

    @classmethod
    def resnest(cls) -> "Settings":
        """The papers' ResNeSt rows: Cascade Mask R-CNN on a ResNeSt-101, synchronized batch norm, box heads of four convolutions."""
        return cls(model=resnest_detector_config())

    @classmethod
    def transformer(cls) -> "Settings":
        """The papers' Swin rows: Cascade R-CNN on a Swin-T and a BiFPN of seven layers, AdamW, 3x schedule."""
        return cls(model=swin_detector_config(), train=StageConfig(STEPS_3X, adamw_3x()))
