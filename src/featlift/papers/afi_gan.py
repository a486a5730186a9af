"""AFI-GAN (Lee, Lee and Choi, Pattern Recognition 2023): adversarial training of a feature interpolator in three stages.

F is the frozen target extractor, G the interpolator, D the discriminator, M the detector whose pyramid is the multi-scale extractor (with
G as its interpolator), T the target detector. Stage 1 trains G and D with F as teacher (Sec. 4.1), stage 2 trains M at half the resolution
with F at full resolution as teacher (Sec. 4.2), stage 3 trains T, initialized from stages 1 and 2 (Sec. 4.3).

Defaults follow the paper's text. Where the published code differs there is an option, and :meth:`Settings.official` sets all options as in
the code; `docs/papers/afi_gan.md` lists them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from featlift import checkpoints
from featlift.data.batches import ResumableDataLoader
from featlift.detectors import Detector, Extractor, get_extractor, get_interpolators, losses_from_features
from featlift.discriminators import PatchDiscriminator
from featlift.distillation.feature_cache import CachedExtractor
from featlift.distillation.feature_pairs import (
    LEVEL_MATCHINGS,
    DownscaleConfig,
    batched_extractor,
    downscale_batch,
    select_levels,
    upsample_levels,
)
from featlift.distillation.patch_sampling import sample_patches
from featlift.features import Features, crop_to_match
from featlift.losses import (
    discriminator_accuracy,
    discriminator_logits,
    discriminator_loss,
    generator_adversarial_loss,
    pyramid_l1,
)
from featlift.papers import baseline
from featlift.papers.baseline import DataConfig, DetectorConfig, StageConfig
from featlift.resolution import cross_resolution, freeze, frozen_copy
from featlift.training import Learner, OptimizerConfig, Run, fit

Target = dict[str, Tensor]
STAGES = ("teacher", "interpolator", "extractor", "target")
DETECTION_STAGES = ("teacher", "extractor", "target")
INTERPOLATOR_PREFIX = "backbone.pyramid.interpolators."
INIT_SOURCES = ("weights", "teacher")
REUSE_MODES = ("none", "G", "G_from_M", "M")


def _sgd_multistep(lr: float, *milestones: float) -> OptimizerConfig:
    return OptimizerConfig("sgd", lr, momentum=0.9, weight_decay=1e-4, schedule="multistep", milestones=milestones)


@dataclass(frozen=True)
class AdversarialConfig:
    """Adversarial loss, discriminator, and compared levels.

    Attributes:
        weight: Weight λ of the adversarial term (Sec. 4.1); 0 trains without a discriminator.
        last_kernel: Kernel size of the discriminator's last convolution: 3 (AFI-GAN) or 1 (SRF-GAN's text).
        init: Initialization of the discriminator's last layer: "small", or "official" (initial logits of ±29).
        width: Width multiplier of the discriminator: 2 in the papers; 1 has a quarter of the cost.
        levels: Levels to compare; empty for all levels of F.
        backprop_to_generator: Backpropagate the adversarial term to G; the published code detaches it, so it trains nothing.
        num_patches: Patches of each large map that the discriminator gets per step (`featlift.distillation.patch_sampling`), an estimate of
            Eqs. (1) and (2) that is unbiased except for batch-norm statistics; 0 uses whole maps (the paper).
    """

    weight: float = 1e-3
    last_kernel: int = 3
    init: str = "small"
    width: int = 2
    levels: tuple[str, ...] = ()
    backprop_to_generator: bool = True
    num_patches: int = 0


@dataclass(frozen=True)
class Settings:
    """The three stages. Defaults are the paper's: Mask R-CNN R50-FPN, 150k + 270k + 90k steps of 16 images.

    Attributes:
        model: Target detector T, whose interpolator is G.
        data: Images, sizes and batch size.
        adversarial: Adversarial loss of stages 1 and 2.
        downscale: Downscaling of the low-resolution view.
        teacher: Training of F if ``teacher_from`` is empty: T's network with nearest interpolation.
        interpolator: Stage 1.
        extractor: Stage 2.
        target: Stage 3.
        teacher_from: Run folder or detector file of F.
        teacher_cache: Folder in which F's feature maps of every image are cached, so that each is computed once
            (`featlift.distillation.feature_cache`); for datasets whose maps fit on the disk. Empty for no cache.
        interpolator_from: Folder of a run that has finished stage 1, which is then skipped.
        extractor_from: Run folder or detector file of M; stages 1 and 2 are then skipped.
        extractor_detector: Detector with which M is trained (Table 3); empty for T's.
        level_matching: Levels compared in stage 2 (Table 7): the "same" levels of two views, or "different" levels of one view.
        extractor_init: Initialization of M's other parts: "weights" (as T's) or "teacher" (F, as in the published code).
        reuse: Weights that T reuses: "none" (A6), "G" of stage 1 (A2), "G_from_M", or all of "M" (A5).
        target_init: Initialization of T's other parts: "weights" (the paper), or "teacher", to improve an existing detector F.
        freeze_interpolator: Freeze G in stage 3 (A4), including its batch-norm statistics.
    """

    model: DetectorConfig = field(default_factory=lambda: DetectorConfig(interpolator="afi"))
    data: DataConfig = field(default_factory=DataConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    downscale: DownscaleConfig = field(default_factory=DownscaleConfig)
    teacher: StageConfig = field(default_factory=lambda: StageConfig(270_000, baseline.sgd_1x()))
    interpolator: StageConfig = field(
        default_factory=lambda: StageConfig(150_000, _sgd_multistep(1e-3, 0.8))
    )  # Sec. 4.1: x 0.1 at 120k
    extractor: StageConfig = field(
        default_factory=lambda: StageConfig(270_000, _sgd_multistep(0.02, 7 / 9, 25 / 27))
    )  # 210k, 250k
    target: StageConfig = field(default_factory=lambda: StageConfig(90_000, baseline.sgd_1x()))
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

    def __post_init__(self) -> None:
        if self.reuse not in REUSE_MODES:
            raise ValueError(f"Unknown reuse '{self.reuse}'; choose one of {', '.join(REUSE_MODES)}.")
        if self.level_matching not in LEVEL_MATCHINGS:
            raise ValueError(
                f"Unknown level_matching '{self.level_matching}'; choose one of {', '.join(LEVEL_MATCHINGS)}."
            )
        for name in ("extractor_init", "target_init"):
            if getattr(self, name) not in INIT_SOURCES:
                raise ValueError(
                    f"Unknown {name} '{getattr(self, name)}'; choose {' or '.join(map(repr, INIT_SOURCES))}."
                )
        replace_detector(self.model, self.extractor_detector)

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
            target=StageConfig(270_000, replace(baseline.sgd_1x(), milestones=(7 / 9, 25 / 27))),
            extractor_init="teacher",
        )
        return replace(code, data=replace(code.data, batch_size=8))

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a small Faster R-CNN on synthetic scenes; M starts from F and T from M, since all weights are random."""
        return cls(
            model=baseline.quick_detector_config("afi"),
            data=baseline.quick_data_config(),
            adversarial=AdversarialConfig(width=1),
            teacher=StageConfig(400, baseline.quick_optimizer()),
            interpolator=StageConfig(40, baseline.quick_optimizer()),
            extractor=StageConfig(60, baseline.quick_optimizer()),
            target=StageConfig(300, baseline.quick_optimizer()),
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
    def transformer(cls) -> "Settings":
        """The paper's Swin rows: Cascade R-CNN on a Swin-T and a BiFPN of seven layers, AdamW and the 3x schedule."""
        paper = cls()
        stages = {name: StageConfig(baseline.STEPS_3X, baseline.adamw_3x()) for name in DETECTION_STAGES}
        return replace(paper, model=baseline.swin_detector_config(paper.model.interpolator), **stages)


def train(settings: Settings, run: Run, stop_after: str = "target") -> nn.Module:
    """Run the stages up to ``stop_after`` and return the result of that stage; a stage that ``run`` has finished is only loaded.

    Stages run on demand: reuse "none" needs only the target stage, "G" does not need the extractor stage.

    Raises:
        ValueError: if there is no such stage.
    """
    if stop_after not in STAGES:
        raise ValueError(f"Unknown stage '{stop_after}'; choose one of {', '.join(STAGES)}.")
    dataset = baseline.load_training_set(settings.data, run)
    loader = baseline.build_train_loader(settings.data, dataset, run.seed, settings.downscale.from_original)
    if stop_after == "target":
        return run_target_stage(settings, loader, dataset.classes, run)
    if stop_after == "teacher":
        return run_teacher_stage(settings, loader, dataset.classes, run)
    if stop_after == "interpolator":
        return run_interpolator_stage(settings, loader, dataset.classes, run)[0]
    return run_extractor_stage(settings, loader, dataset.classes, run)


def run_teacher_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """Return the detector of F: loaded from ``settings.teacher_from``, or T's network, trained with nearest interpolation."""
    if settings.teacher_from:
        return baseline.load_detector(settings.teacher_from)[0]
    model = replace(settings.model, interpolator="nearest", interpolator_options={})
    detector = baseline.build_detector(model, len(classes))
    baseline.train_detector(detector, loader, settings.teacher, run, "teacher")
    baseline.save_detector(detector, model, classes, run.folder, "teacher.safetensors")
    return detector


# ------------------------------------------------------------------------------------------------ stage 1: Sec. 4.1, Eqs. (1) and (2)


def run_interpolator_stage(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> tuple[nn.ModuleList, PatchDiscriminator]:
    """Return G and D after stage 1: trained, or loaded from ``settings.interpolator_from``. Fixed interpolators need no training."""
    G = nn.ModuleList(baseline.build_pyramid_interpolators(settings.model))
    D = PatchDiscriminator(
        settings.model.pyramid_channels,
        settings.adversarial.last_kernel,
        settings.adversarial.init,
        settings.adversarial.width,
    )
    modules = [*G, D] if settings.adversarial.weight else [*G]  # λ = 0: D is not trained and has no file
    if settings.interpolator_from:
        for module, file in zip(modules, gan_weight_files(Path(settings.interpolator_from), len(G)), strict=False):
            checkpoints.load_state_file(module, file)
    elif any(True for _ in G.parameters()):
        F = frozen_copy(get_extractor(run_teacher_stage(settings, loader, classes, run)))
        run.to_device(F)
        pretrain_interpolator(F, G, D, settings, loader, run)
        if run.rank == 0:
            for module, file in zip(modules, gan_weight_files(run.folder, len(G)), strict=False):
                checkpoints.save(module, file)
    return G, D


def gan_weight_files(folder: Path, num_interpolators: int) -> list[Path]:
    """Return the files of a run's ``num_interpolators`` interpolators and its discriminator; `featlift.checkpoints.load` loads each."""
    names = ["G"] if num_interpolators == 1 else [f"G{i}" for i in range(num_interpolators)]
    return [folder / f"{name}.safetensors" for name in [*names, "D"]]


def pretrain_interpolator(
    F: Extractor, G: nn.ModuleList, D: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run
) -> None:
    """Stage 1: train G(F(½ image)) to match F(image) on every level; D minimizes Eq. (1), G minimizes Eq. (2)."""
    generator, discriminator = _build_learners(G, D, settings.interpolator, settings.adversarial)
    extract, levels = batched_extractor(_cached_teacher(F, settings)), settings.adversarial.levels

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        low, high = cross_resolution(
            teacher=extract,
            student=lambda small: upsample_levels(G, select_levels(extract(small), levels)),
            image=images,
            downscale=lambda images: downscale_batch(images, targets, settings.downscale)[0],
        )
        student, teacher = crop_to_match(low, high)
        discriminator_log, losses = adversarial_step(D, discriminator, student, teacher, settings.adversarial)
        return discriminator_log | generator.step(losses)

    fit(step, loader, settings.interpolator.steps, run, {"generator": generator, **discriminator}, "interpolator")
    generator.apply_ema()


def _cached_teacher(F: Extractor, settings: Settings) -> Extractor | CachedExtractor:
    return CachedExtractor(F, settings.teacher_cache) if settings.teacher_cache else F


def adversarial_step(
    D: nn.Module,
    discriminator_learners: Mapping[str, Learner],
    student: Features,
    teacher: Features,
    config: AdversarialConfig,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Update D, then compute the generator's losses with the updated D; return D's log values and the generator's losses.

    The student's features are shared by both; D's logits are computed again, because D has changed. Without
    ``discriminator_learners`` (λ = 0) there is only the L1 loss.
    """
    if not discriminator_learners:
        return {}, {"content": pyramid_l1(student, teacher)}
    patches = sample_patches(student, config.num_patches)
    student_patches = patches.crop(student)
    fake = discriminator_logits(D, student_patches, detach=True)
    real = discriminator_logits(D, patches.crop(teacher))
    loss = discriminator_loss(fake, real, patches.cell_weights)
    log = discriminator_learners["discriminator"].step({"discriminator": loss}) | discriminator_accuracy(fake, real)
    if not config.backprop_to_generator:
        student_patches = {level: x.detach() for level, x in student_patches.items()}
    adversarial = config.weight * generator_adversarial_loss(D, student_patches, patches.cell_weights)
    return log, {"content": pyramid_l1(student, teacher), "adversarial": adversarial}


# ------------------------------------------------------------------------------------------------ stage 2: Sec. 4.2, Eq. (3)


def run_extractor_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """Return M after stage 2: trained, or loaded from ``settings.extractor_from``."""
    if settings.extractor_from:
        return baseline.load_detector(settings.extractor_from)[0]
    teacher = run_teacher_stage(settings, loader, classes, run)
    F = frozen_copy(get_extractor(teacher))
    run.to_device(F)
    G, D = run_interpolator_stage(settings, loader, classes, run)
    model = replace_detector(settings.model, settings.extractor_detector)
    M = baseline.build_detector(model, len(classes))
    if settings.extractor_init == "teacher":
        baseline.load_matching_weights(M, teacher.state_dict())
    for module, pretrained in zip(get_interpolators(M), G, strict=False):  # a detector without p2 has one step fewer
        module.load_state_dict(pretrained.state_dict())
    train_extractor(F, M, D, settings, loader, run)
    baseline.save_detector(M, model, classes, run.folder, "extractor.safetensors")
    return M


def replace_detector(model: DetectorConfig, detector: str) -> DetectorConfig:
    """Return ``model`` with another ``detector``, keeping only the test size of its options; unchanged if ``detector`` is empty."""
    if detector in ("", model.detector):
        return model
    options = {name: value for name, value in model.detector_options.items() if name == "test_size"}
    return replace(model, detector=detector, detector_options=options)


def train_extractor(
    F: Extractor, M: Detector, D: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run
) -> None:
    """Stage 2: train M's pyramid to match F's, together with M's detection losses on the same features, Eq. (3)."""
    extractor, discriminator = _build_learners(M, D, settings.extractor, settings.adversarial)
    extract, build_pair = batched_extractor(_cached_teacher(F, settings)), LEVEL_MATCHINGS[settings.level_matching]

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        pair = build_pair(extract, M, (images, targets), settings.downscale)
        student, teacher = crop_to_match(select_levels(pair.student, settings.adversarial.levels), pair.teacher)
        discriminator_log, losses = adversarial_step(D, discriminator, student, teacher, settings.adversarial)
        detection_losses = losses_from_features(M, pair.images, pair.features, pair.targets)
        return discriminator_log | extractor.step(losses | detection_losses)

    fit(step, loader, settings.extractor.steps, run, {"extractor": extractor, **discriminator}, "extractor")
    extractor.apply_ema()


# ------------------------------------------------------------------------------------------------ stage 3: Sec. 4.3, Eqs. (4) to (7)


def run_target_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """Return T: initialized with the weights of ``settings.reuse`` and trained with its detection losses on full-size images."""
    weights = reused_weights(settings, loader, classes, run)
    if settings.target_init == "teacher":
        weights = run_teacher_stage(settings, loader, classes, run).state_dict() | weights
    T = baseline.build_detector(settings.model, len(classes))
    unchanged = baseline.load_matching_weights(T, weights)
    if run.rank == 0:
        print(
            f"The target reuses {len(T.state_dict()) - len(unchanged)} tensors (reuse {settings.reuse}, "
            f"target_init {settings.target_init}); {len(unchanged)} keep their initialization."
        )
    if settings.freeze_interpolator:
        freeze(get_interpolators(T))
    baseline.train_detector(T, loader, settings.target, run, "target")
    baseline.save_detector(T, settings.model, classes, run.folder)
    return T


def reused_weights(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> dict[str, Tensor]:
    """Return the weights that T reuses, with T's tensor names, after running (or loading) the stages they need."""
    if settings.reuse == "none":
        return {}
    if settings.reuse == "G":
        G, _ = run_interpolator_stage(settings, loader, classes, run)
        return {f"{INTERPOLATOR_PREFIX}{name}": value for name, value in G.state_dict().items()}
    weights = run_extractor_stage(settings, loader, classes, run).state_dict()
    return {
        name: value for name, value in weights.items() if settings.reuse == "M" or name.startswith(INTERPOLATOR_PREFIX)
    }


def _build_learners(
    generator: nn.Module, D: nn.Module, stage: StageConfig, config: AdversarialConfig
) -> tuple[Learner, dict[str, Learner]]:
    """Return the generator's learner and ``{"discriminator": learner}``, which is empty if λ = 0."""
    discriminator = {"discriminator": Learner(D, stage.optimizer, stage.steps)} if config.weight else {}
    return Learner(generator, stage.optimizer, stage.steps), discriminator
