"""Settings of EFPN and of its distillation."""

from dataclasses import dataclass, field, replace

from featlift.data.class_balance import DEFAULT_COLOR_JITTER, ClassBalance
from featlift.data.config import DataConfig, finetune_data_config, quick_data_config
from featlift.detectors.config import DetectorConfig, finetune_detector_config, quick_detector_config
from featlift.detectors.efpn_config import ExtendedLevelConfig
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig, finetune_optimizer, quick_optimizer, sgd_1x

TT100K_MIN_SIZE = (1400,)
"""Short side of TT100K's images (Sec. IV-A: 1400 x 1400)."""
EXTENDED_LEVELS = ("p3x", "p2x")


@dataclass(frozen=True)
class DistillationConfig:
    """Images, losses and memory use of phase 2.

    Attributes:
        image_scale: Size of the teacher's images relative to ``data.min_size``; with 2 the student gets the image sizes of T.
        foreground_weight: Weight λ of the foreground term (Sec. IV-A); 0 disables it.
        crop_size: Side in pixels of random square crops of the teacher's image, to save memory (a multiple of 64); 0 for whole images.
        unlabeled_images: Folder of images without boxes to train on instead of the data; then only the global term is used.
        tile_size: Side of the tiles in which the extension is computed, and recomputed in the backward pass, to save memory, in cells of
            stride 8 (8 is a good start); the result is the same. 0 computes whole maps.
        levels: Maps with a loss; the first two rows of Table IV have none on p3x: ``p2x`` alone.
    """

    image_scale: float = 2.0
    foreground_weight: float = 1.0
    crop_size: int = 0
    unlabeled_images: str = ""
    tile_size: int = 0
    levels: tuple[str, ...] = EXTENDED_LEVELS

    def __post_init__(self) -> None:
        if not self.levels or not set(self.levels) <= set(EXTENDED_LEVELS):
            raise ValueError(f"distillation.levels is {', '.join(self.levels) or 'empty'}; give p3x, p2x or both.")


@dataclass(frozen=True)
class Settings:
    """The three phases. Defaults are FeatLift's choices on the paper's TT100K experiment (preset "recommended").

    Attributes:
        model: Base detector M: a Faster or Mask R-CNN on an FPN or PAFPN, with a backbone of the ResNet family.
        data: Images, sizes and batch size.
        extended_level: Extended level.
        distillation: Images and losses of phase 2.
        class_balance: Oversampling of rare classes with crops and color jitter. The paper uses 1000 and gives no crop size; for COCO set
            min_per_class to 0 (preset "coco").
        detector: Phase 1.
        extension: Phase 2.
        head: Phase 3; with 0 steps the new head stays a copy of the old one (the release on COCO).
        detector_from: Run folder or detector file of M; phase 1 is then skipped.
        train_extension: Also train the extension in phase 3, as the release does.
    """

    model: DetectorConfig = field(
        default_factory=lambda: DetectorConfig(
            "faster-rcnn", detector_options={"anchor_scale": 4.0, "test_size": [1400, 4000], "max_detections": 300}
        )
    )
    data: DataConfig = field(default_factory=lambda: DataConfig(min_size=TT100K_MIN_SIZE, max_size=4000))
    extended_level: ExtendedLevelConfig = field(default_factory=ExtendedLevelConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    class_balance: ClassBalance = field(default_factory=lambda: ClassBalance(min_per_class=1000, crop_size=1024))
    detector: StageConfig = field(default_factory=lambda: StageConfig(90_000, sgd_1x()))
    extension: StageConfig = field(
        default_factory=lambda: StageConfig(
            90_000, OptimizerConfig("adamw", lr=1e-4, schedule="cosine", max_grad_norm=1.0)
        )
    )
    head: StageConfig = field(
        default_factory=lambda: StageConfig(30_000, OptimizerConfig("sgd", lr=0.005, warmup_steps=1000))
    )
    detector_from: str = ""
    train_extension: bool = True

    def __post_init__(self) -> None:
        if self.distillation.image_scale != 1 and not self.data.min_size:
            raise ValueError(
                f"distillation.image_scale is {self.distillation.image_scale}, but data.min_size is empty, so images keep their size. "
                "Set data.min_size (T's image size), or image_scale to 1: then the student gets each image at half the size."
            )

    @classmethod
    def paper(cls) -> "Settings":
        """As in the text, on TT100K: Eqs. (1) and (3) as printed, P3 and P2 as inputs, phase 3 trains the head only."""
        extended_level = ExtendedLevelConfig("ftt-paper", inputs="outputs", merge="sum", init="random")
        return cls(extended_level=extended_level, train_extension=False)

    @classmethod
    def coco(cls) -> "Settings":
        """As in the text, on COCO: short sides of 800 px (640 … 800 in training), RoIs below 112 px, color jitter, no crops."""
        paper = cls.paper()
        return replace(
            paper,
            model=DetectorConfig("faster-rcnn"),
            data=DataConfig(),
            extended_level=replace(paper.extended_level, small_roi_size=112.0),
            class_balance=ClassBalance(color_jitter=DEFAULT_COLOR_JITTER),
        )

    @classmethod
    def official(cls) -> "Settings":
        """As in the code release: FTT with 512 channels from random weights, small RoIs classified by both heads."""
        return cls(extended_level=ExtendedLevelConfig("ftt-512", routing="duplicate", init="random"))

    @classmethod
    def finetune(cls) -> "Settings":
        """One's own images on one GPU: Faster R-CNN on a pretrained ResNet-50, images of 800 px."""
        return cls(
            model=finetune_detector_config(),
            data=replace(finetune_data_config(), min_size=(800,)),
            class_balance=ClassBalance(),
            extended_level=ExtendedLevelConfig(small_roi_size=112.0),
            detector=StageConfig(10_000, finetune_optimizer()),
            extension=StageConfig(5_000, OptimizerConfig("adamw", lr=1e-4, schedule="cosine", max_grad_norm=1.0)),
            head=StageConfig(3_000, finetune_optimizer()),
        )

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a small Faster R-CNN on synthetic scenes, with its own features of 2x scenes as teacher."""
        return cls(
            model=quick_detector_config(),
            data=replace(quick_data_config(), min_size=(160,)),
            class_balance=ClassBalance(),
            extended_level=ExtendedLevelConfig(transfer_options={"hidden_channels": 32}, small_roi_size=32.0),
            detector=StageConfig(600, quick_optimizer()),
            extension=StageConfig(150, quick_optimizer()),
            head=StageConfig(150, quick_optimizer()),
        )
