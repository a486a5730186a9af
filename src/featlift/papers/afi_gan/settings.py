"""Settings of AFI-GAN's three stages."""

from dataclasses import dataclass, field, replace

from featlift.data.config import DataConfig, finetune_data_config, quick_data_config
from featlift.detectors.config import (
    DetectorConfig,
    finetune_detector_config,
    quick_detector_config,
    replace_detector,
    resnest_detector_config,
    swin_detector_config,
)
from featlift.distillation.discriminator import PatchDiscriminator
from featlift.distillation.feature_pairs import (
    LEVEL_MATCHINGS,
    DownscaleConfig,
)
from featlift.interpolators import check_unguided
from featlift.papers.afi_gan.self_training import SelfTrainingConfig
from featlift.registry import check_choice
from featlift.training import OptimizerConfig
from featlift.training.schedules import (
    MILESTONES_3X,
    STEPS_3X,
    StageConfig,
    adamw_3x,
    finetune_optimizer,
    quick_optimizer,
    sgd_1x,
)
from featlift.training.synchronized_norm import synchronize_batch_norm

STAGES = ("teacher", "interpolator", "extractor", "target")


DETECTION_STAGES = ("teacher", "extractor", "target")


INIT_SOURCES = ("weights", "teacher")


REUSE_MODES = ("none", "G", "G_from_M", "M")


def _sgd_multistep(lr: float, *milestones: float, warmup_steps: int = 0) -> OptimizerConfig:
    return OptimizerConfig(
        "sgd",
        lr,
        momentum=0.9,
        weight_decay=1e-4,
        warmup_steps=warmup_steps,
        schedule="multistep",
        milestones=milestones,
    )


@dataclass(frozen=True)
class AdversarialConfig:
    """Adversarial loss, discriminator, and compared levels.

    Attributes:
        weight: Weight λ of the adversarial term (Sec. 4.1); 0 trains without a discriminator.
        last_kernel: Kernel size of the discriminator's last convolution: 3 (AFI-GAN) or 1 (SRF-GAN's text).
        init: Initialization of the discriminator's last layer: "small", or "official" (initial logits of ±29).
        width: Width multiplier of the discriminator: 2 in the papers; 1 has a quarter of the cost.
        levels: Levels to compare; empty for all levels of F that the pyramid computes: p2 … p5 of an R-CNN on an FPN (Sec. 5.3), whose
            p6 is every second cell of p5.
        backprop_to_generator: Backpropagate the adversarial term to G; the published code detaches it, so it trains nothing.
        num_patches: Patches of each large map that the discriminator gets per step (`featlift.distillation.patch_sampling`), an estimate of
            Eqs. (1) and (2) that is unbiased except for batch-norm statistics; 0 uses whole maps (the paper).
        sync_batch_norm: With several processes, compute the discriminator's batch-norm statistics from the batches of all of them, as one
            process with the whole batch does.
    """

    weight: float = 1e-3
    last_kernel: int = 3
    init: str = "small"
    width: int = 2
    levels: tuple[str, ...] = ()
    backprop_to_generator: bool = True
    num_patches: int = 0
    sync_batch_norm: bool = False

    def build_discriminator(self, channels: int) -> PatchDiscriminator:
        """Return D for maps of ``channels`` channels."""
        discriminator = PatchDiscriminator(channels, self.last_kernel, self.init, self.width)
        if self.sync_batch_norm:
            synchronize_batch_norm(discriminator)
        return discriminator


@dataclass(frozen=True)
class Settings:
    """The three stages. Defaults are the paper's: Mask R-CNN R50-FPN, 150k + 270k + 90k steps of 16 images.

    Attributes:
        model: Target detector T, whose interpolator is G.
        data: Images, sizes and batch size.
        adversarial: Adversarial loss of stages 1 and 2.
        downscale: Downscaling of the low-resolution view.
        teacher: Training of F if ``teacher_from`` is empty: M's network with nearest interpolation.
        interpolator: Stage 1.
        extractor: Stage 2.
        target: Stage 3.
        teacher_from: Run folder or detector file of F.
        teacher_cache: Folder in which F's feature maps of every image are cached, so that each is computed once
            (`featlift.distillation.feature_cache`); for datasets whose maps fit on the disk. Empty for no cache.
        interpolator_from: Folder of a run that has finished stage 1, which is then skipped.
        extractor_from: Run folder or detector file of M; stages 1 and 2 are then skipped.
        extractor_detector: Detector with which F and M are trained (Table 3), so that all its levels are compared; empty for T's. The
            learning rates of their stages are those of that detector: 0.02 for R-CNNs, 0.01 for the others.
        level_matching: Levels compared in stage 2 (Table 7): the "same" levels of two views, or "different" levels of one view.
        extractor_init: Initialization of M's other parts: "weights" (as T's) or "teacher" (F, as in the published code).
        reuse: Weights that T reuses: "none" (A6), "G" of stage 1 (A2), "G_from_M", or all of "M" (A5).
        target_init: Initialization of T's other parts: "weights" (the paper), or "teacher", to improve an existing detector F.
        freeze_interpolator: Freeze G in stage 3 (A4), including its batch-norm statistics.
        self_training: Training of T on pseudo-labeled images, too (Table 1).
    """

    model: DetectorConfig = field(default_factory=lambda: DetectorConfig(interpolator="afi"))
    data: DataConfig = field(default_factory=DataConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    downscale: DownscaleConfig = field(default_factory=DownscaleConfig)
    teacher: StageConfig = field(
        default_factory=lambda: StageConfig(270_000, replace(sgd_1x(), milestones=MILESTONES_3X))
    )
    interpolator: StageConfig = field(
        default_factory=lambda: StageConfig(150_000, _sgd_multistep(1e-3, 0.8, warmup_steps=1000))
    )  # Sec. 4.1: x 0.1 at 120k
    extractor: StageConfig = field(
        default_factory=lambda: StageConfig(270_000, _sgd_multistep(0.02, *MILESTONES_3X, warmup_steps=1000))
    )  # 210k, 250k
    target: StageConfig = field(default_factory=lambda: StageConfig(90_000, sgd_1x()))
    teacher_from: str = ""
    teacher_cache: str = ""
    interpolator_from: str = ""
    extractor_from: str = ""
    extractor_detector: str = ""
    level_matching: str = "same"
    extractor_init: str = "weights"
    reuse: str = "G_from_M"  # Sec. 4.3: the interpolator only; the whole extractor "is also feasible"
    target_init: str = "weights"
    freeze_interpolator: bool = False
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)

    def __post_init__(self) -> None:
        check_choice(self.reuse, REUSE_MODES, "reuse")
        check_choice(self.level_matching, LEVEL_MATCHINGS, "level_matching")
        for name in ("extractor_init", "target_init"):
            check_choice(getattr(self, name), INIT_SOURCES, name)
        replace_detector(self.model, self.extractor_detector)
        if self.reuse != "none" and not self.extractor_from:
            check_unguided(self.model.interpolator, "Stage 1")

    @classmethod
    def official(cls) -> "Settings":
        """As in the published code: G trained by L1 alone, independent flips, nearest downscaling, M initialized from F, T reuses M's G."""
        code = cls(
            model=DetectorConfig(interpolator="afi", interpolator_options={"init": "official"}),
            adversarial=AdversarialConfig(
                init="official", backprop_to_generator=False, levels=("p2", "p3", "p4", "p5", "p6")
            ),
            downscale=DownscaleConfig(feature_mode="nearest", from_original=True, same_flip=False),
            interpolator=StageConfig(
                300_000, replace(_sgd_multistep(1e-3, 0.9), warmup_steps=1000, decay_norms_and_biases=False)
            ),
            extractor=StageConfig(
                180_000, replace(_sgd_multistep(0.01, 2 / 3, 8 / 9), warmup_steps=1000, decay_norms_and_biases=False)
            ),
            target=StageConfig(270_000, replace(sgd_1x(), milestones=MILESTONES_3X)),
            extractor_init="teacher",
        )
        return replace(code, data=replace(code.data, batch_size=8))

    @classmethod
    def finetune(cls) -> "Settings":
        """One's own images on one GPU: Faster R-CNN on a pretrained ResNet-50; M and T start from F."""
        return cls(
            model=finetune_detector_config("afi"),
            data=finetune_data_config(),
            teacher=StageConfig(10_000, finetune_optimizer()),
            interpolator=StageConfig(5_000, _sgd_multistep(1e-3, 0.8)),
            extractor=StageConfig(5_000, finetune_optimizer()),
            target=StageConfig(10_000, finetune_optimizer()),
            extractor_init="teacher",
            target_init="teacher",
        )

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a small Faster R-CNN on synthetic scenes; M starts from F and T from M, since all weights are random."""
        return cls(
            model=quick_detector_config("afi"),
            data=quick_data_config(),
            adversarial=AdversarialConfig(width=1),
            teacher=StageConfig(400, quick_optimizer()),
            interpolator=StageConfig(40, quick_optimizer()),
            extractor=StageConfig(60, quick_optimizer()),
            target=StageConfig(300, quick_optimizer()),
            extractor_init="teacher",
            reuse="M",
        )

    @classmethod
    def dense(cls) -> "Settings":
        """The paper's RetinaNet, FCOS and CenterMask: half the learning rate in every stage that trains a detector."""
        paper = cls()
        stages = {name: getattr(paper, name) for name in DETECTION_STAGES}
        stages = {name: replace(s, optimizer=replace(s.optimizer, lr=s.optimizer.lr / 2)) for name, s in stages.items()}
        return replace(paper, model=replace(paper.model, detector="retinanet"), **stages)

    @classmethod
    def resnest(cls) -> "Settings":
        """The paper's ResNeSt rows: Cascade Mask R-CNN on a ResNeSt-101, synchronized batch norm, box heads of four convolutions."""
        paper = cls()
        return replace(paper, model=resnest_detector_config(paper.model.interpolator))

    @classmethod
    def transformer(cls) -> "Settings":
        """The paper's Swin rows: Cascade R-CNN on a Swin-T and a BiFPN of seven layers, AdamW and the 3x schedule."""
        paper = cls()
        stages = {name: StageConfig(STEPS_3X, adamw_3x()) for name in DETECTION_STAGES}
        return replace(paper, model=swin_detector_config(paper.model.interpolator), **stages)
