"""Settings of the distillation of light interpolators."""

from dataclasses import dataclass, field, replace

from featlift.data.config import DataConfig, finetune_data_config, quick_data_config
from featlift.detectors.config import DetectorConfig, finetune_detector_config, quick_detector_config
from featlift.interpolators import check_unguided
from featlift.registry import check_choice
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig, finetune_optimizer, quick_optimizer, sgd_1x

STAGES = ("teacher", "interpolator", "target")


@dataclass(frozen=True)
class DistillationWeights:
    """Weights of the distillation losses: mean squared errors relative to the teacher, summed over steps or levels (`losses.feature_mse`).

    Attributes:
        same_resolution: Weight of the loss between the outputs of G and of the teacher's interpolator for the same map.
        cross_resolution: Weight of the loss between G's upsampled maps of the half-size image and the teacher's maps of the image.
    """

    same_resolution: float = 1.0
    cross_resolution: float = 1.0

    def __post_init__(self) -> None:
        if (
            not (self.same_resolution > 0 or self.cross_resolution > 0)
            or min(self.same_resolution, self.cross_resolution) < 0
        ):
            raise ValueError(
                f"loss_weights are same_resolution {self.same_resolution} and cross_resolution {self.cross_resolution}; "
                "neither may be negative, and at least one must be above 0."
            )


@dataclass(frozen=True)
class Settings:
    """Distillation and fine-tuning; the defaults are for Mask R-CNN R50-FPN on COCO.

    Attributes:
        model: Target detector T, whose interpolator is G: "light" or "light-agnostic" (any other learned interpolator also works).
        data: Images, sizes and batch size; the distillation uses no labels.
        loss_weights: Weights of the distillation losses.
        teacher_interpolator: Interpolator of the teacher that is trained if ``teachers_from`` is empty.
        teacher: Training of that teacher.
        interpolator: Distillation.
        target: Fine-tuning of T.
        teachers_from: Run folders or detector files of the teachers; T is initialized from the first.
        interpolator_from: Folder of a run that has finished the distillation, which is then skipped.
        target_init: Initialization of T's other parts: "teacher" (the first teacher) or "weights" (as configured in ``model``).
    """

    model: DetectorConfig = field(default_factory=lambda: DetectorConfig(interpolator="light"))
    data: DataConfig = field(default_factory=DataConfig)
    loss_weights: DistillationWeights = field(default_factory=DistillationWeights)
    teacher_interpolator: str = "afi"
    teacher: StageConfig = field(default_factory=lambda: StageConfig(90_000, sgd_1x()))
    interpolator: StageConfig = field(default_factory=lambda: StageConfig(30_000, _adam_cosine(1e-3)))
    target: StageConfig = field(default_factory=lambda: StageConfig(30_000, replace(sgd_1x(), lr=2e-3)))
    teachers_from: tuple[str, ...] = ()
    interpolator_from: str = ""
    target_init: str = "teacher"

    def __post_init__(self) -> None:
        check_choice(self.target_init, ("teacher", "weights"), "target_init")
        check_unguided(self.model.interpolator, "The distillation")

    @classmethod
    def finetune(cls) -> "Settings":
        """One's own images on one GPU: Faster R-CNN on a pretrained ResNet-50; the teacher has AFI."""
        return cls(
            model=finetune_detector_config("light"),
            data=finetune_data_config(),
            teacher=StageConfig(10_000, finetune_optimizer()),
            interpolator=StageConfig(5_000, _adam_cosine(1e-3)),
            target=StageConfig(5_000, finetune_optimizer(5e-4)),
        )

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: on synthetic scenes, a small Faster R-CNN with AFI as teacher and one with the light interpolator as target."""
        return cls(
            model=quick_detector_config("light"),
            data=quick_data_config(),
            teacher=StageConfig(600, quick_optimizer()),
            interpolator=StageConfig(200, _adam_cosine(3e-3)),
            target=StageConfig(200, quick_optimizer(3e-4)),
        )


def _adam_cosine(lr: float) -> OptimizerConfig:
    return OptimizerConfig("adam", lr, weight_decay=0.0, warmup_steps=20, schedule="cosine", max_grad_norm=10.0)
