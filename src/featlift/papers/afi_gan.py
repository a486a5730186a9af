"""AFI-GAN (Lee, Lee and Choi, Pattern Recognition 2023): a feature interpolator, trained against a critic in three stages.

F is the frozen target extractor, G the interpolator, D the critic, M the detector whose pyramid is the multi-scale extractor (G does
every doubling in it), T the detector that is wanted. Stage 1 teaches G and D from F (Sec. 4.1), stage 2 teaches M at half the
resolution from F at the full one (Sec. 4.2), stage 3 trains T, which starts from what stages 1 and 2 made (Sec. 4.3).

The paper's text is the default. Where the published code does something else there is an option, and :meth:`Settings.official` turns
all of them to the code's side; `docs/papers/afi_gan.md` lists them.
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
    return OptimizerConfig("sgd", lr, momentum=0.9, weight_decay=1e-4, schedule="steps", milestones=milestones)


@dataclass(frozen=True)
class AdversarialConfig:
    """The game between G and D, and what is compared.

    Attributes:
        weight: λ of the adversarial term (Sec. 4.1); with 0 there is no critic at all.
        last_kernel: side of the critic's last convolution: 3 (AFI-GAN), 1 (SRF-GAN's text).
        init: start of the critic's last layer: "small", or "official" (first logits of ±29).
        width: of the critic, 2 in the papers; 1 has a quarter of the cost.
        levels: those that are compared; empty means all that F has.
        backprop_to_generator: whether the adversarial term reaches G; the published code detaches it, so that it trains nothing.
        num_patches: how many windows of each large map the critic looks at in a step (`featlift.distillation.patch_sampling`), an estimate of Eqs. (1) and (2)
            without bias but for batch norm's statistics; 0 (the paper's) looks at all.
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
    """The three stages. Defaults are the paper's: Mask R-CNN R50-FPN, 150k + 270k + 90k steps of 16 pictures.

    Attributes:
        model: T, whose interpolator is G.
        data: pictures, sizes and batch.
        adversarial: the game of stages 1 and 2.
        downscale: how the low-resolution view is made.
        teacher: how F is trained, if ``teacher_from`` names none: T's network with nearest interpolation.
        interpolator: stage 1.
        extractor: stage 2.
        target: stage 3.
        teacher_from: run folder or detector file of F.
        teacher_cache: folder in which F's maps of every picture are kept, so that F looks at each once (`featlift.distillation.feature_cache`); for
            sets of pictures whose maps fit on the disk. Empty keeps none.
        interpolator_from: folder of a run that has finished stage 1; it is then left out.
        extractor_from: run folder or detector file of M; stages 1 and 2 are then left out.
        extractor_detector: the head that M is trained with (Table 3); empty means T's.
        level_matching: what stage 2 compares (Table 7): the "same" levels of two views, or "different" levels of one.
        extractor_init: what M's other parts start from: "weights" (as T would) or "teacher" (F, as the published code does).
        reuse: what T takes over: "none" (A6), "G" of stage 1 (A2), "G_from_M", or the whole "M" (A5).
        target_init: what T's other parts start from: "weights" (the paper), or "teacher", where F is a detector of one's own that is to
            be made better.
        freeze_interpolator: keep G as it is in stage 3 (A4), its batch-norm statistics too.
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
            raise ValueError(f"Unknown semantics '{self.level_matching}'; choose one of {', '.join(LEVEL_MATCHINGS)}.")
        for name in ("extractor_start", "target_start"):
            if getattr(self, name) not in INIT_SOURCES:
                raise ValueError(
                    f"Unknown {name} '{getattr(self, name)}'; choose {' or '.join(map(repr, INIT_SOURCES))}."
                )
        replace_detector(self.model, self.extractor_detector)

    @classmethod
    def official(cls) -> "Settings":
        """As the published code does: L1 alone teaches G, views flip apart, nearest halving, M starts from F, T takes G of M."""
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
        """The laptop's: a small Faster R-CNN on the built-in scenes; M starts from F and T from M, since all weights are random."""
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
        """The paper's for RetinaNet, FCOS and CenterMask: wherever such a detector is trained, half the rate."""
        paper = cls()
        stages = {name: getattr(paper, name) for name in DETECTION_STAGES}
        slower = {name: replace(s, optimizer=replace(s.optimizer, lr=s.optimizer.lr / 2)) for name, s in stages.items()}
        return replace(paper, model=replace(paper.model, detector="retinanet"), **slower)

    @classmethod
    def transformer(cls) -> "Settings":
        """The paper's Swin rows: Cascade R-CNN on a Swin-T and a BiFPN of seven layers, AdamW wherever it is trained, T for 3x."""
        paper = cls()
        stages = {name: StageConfig(baseline.STEPS_3X, baseline.adamw_3x()) for name in DETECTION_STAGES}
        return replace(paper, model=baseline.swin_detector_config(paper.model.interpolator), **stages)


def train(settings: Settings, run: Run, stop_after: str = "target") -> nn.Module:
    """The chain up to stage ``stop_after``; a stage that ``run`` has finished is only loaded. Returns what the last stage made.

    Stages are run on demand: reuse "none" needs none before the target, "G" not the extractor.

    Raises:
        ValueError: if there is no such stage.
    """
    if stop_after not in STAGES:
        raise ValueError(f"There is no stage '{stop_after}'; there are {', '.join(STAGES)}.")
    shown = baseline.load_training_set(settings.data, run)
    stream, classes = (
        baseline.build_train_loader(settings.data, shown, run.seed, settings.downscale.from_original),
        shown.classes,
    )
    if stop_after == "target":
        return run_target_stage(settings, stream, classes, run)
    if stop_after == "teacher":
        return run_teacher_stage(settings, stream, classes, run)
    if stop_after == "interpolator":
        return run_interpolator_stage(settings, stream, classes, run)[0]
    return run_extractor_stage(settings, stream, classes, run)


def run_teacher_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """The detector that F is taken from: the one named, or T's network with nearest interpolation, trained now."""
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
    """G and D after stage 1: trained now, or read from ``settings.interpolator_from``. Fixed interpolators need no training."""
    G = nn.ModuleList(baseline.build_pyramid_interpolators(settings.model))
    D = PatchDiscriminator(
        settings.model.pyramid_channels,
        settings.adversarial.last_kernel,
        settings.adversarial.init,
        settings.adversarial.width,
    )
    learned = [*G, D] if settings.adversarial.weight else [*G]  # λ = 0: a critic that nobody asked has no file
    if settings.interpolator_from:
        for part, file in zip(learned, gan_weight_files(Path(settings.interpolator_from), len(G)), strict=False):
            checkpoints.load_state_file(part, file)
    elif any(True for _ in G.parameters()):
        F = frozen_copy(get_extractor(run_teacher_stage(settings, loader, classes, run)))
        run.to_device(F)
        pretrain_interpolator(F, G, D, settings, loader, run)
        if run.rank == 0:
            for part, file in zip(learned, gan_weight_files(run.folder, len(G)), strict=False):
                checkpoints.save(part, file)
    return G, D


def gan_weight_files(folder: Path, num_interpolators: int) -> list[Path]:
    """Where a run keeps its ``num_interpolators`` interpolators and its critic; `featlift.checkpoints.load` builds each from its file alone."""
    names = ["G"] if num_interpolators == 1 else [f"G{i}" for i in range(num_interpolators)]
    return [folder / f"{name}.safetensors" for name in [*names, "D"]]


def pretrain_interpolator(
    F: Extractor, G: nn.ModuleList, D: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run
) -> None:
    """G(F(½ picture)) against F(picture) on every level; D tells them apart (Eq. 1), G fools it and stays near (Eq. 2)."""
    generator, critic = _build_learners(G, D, settings.interpolator, settings.adversarial)
    seen, compared = batched_extractor(_cached_teacher(F, settings)), settings.adversarial.levels

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        low, high = cross_resolution(
            teacher=seen,
            student=lambda small: upsample_levels(G, select_levels(seen(small), compared)),
            image=images,
            downscale=lambda images: downscale_batch(images, targets, settings.downscale)[0],
        )
        student, target = crop_to_match(low, high)
        critic_said, losses = adversarial_step(D, critic, student, target, settings.adversarial)
        return critic_said | generator.step(losses)

    fit(step, loader, settings.interpolator.steps, run, {"generator": generator, **critic}, "interpolator")
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
    """D's turn, then what the generator's side descends on, judged by the D of after its turn.

    The student's features serve both turns; D's logits of them do not, because D has moved. Where nobody is the ``discriminator_learners`` (λ = 0),
    nobody judges.
    """
    if not discriminator_learners:
        return {}, {"content": pyramid_l1(student, teacher)}
    look = sample_patches(student, config.num_patches)
    seen = look.crop(student)
    fake, real = discriminator_logits(D, seen, detach=True), discriminator_logits(D, look.crop(teacher))
    said = discriminator_learners["critic"].step({"critic": discriminator_loss(fake, real, look.cell_weights)})
    judged = seen if config.backprop_to_generator else {level: x.detach() for level, x in seen.items()}
    adversarial = config.weight * generator_adversarial_loss(D, judged, look.cell_weights)
    return said | discriminator_accuracy(fake, real), {
        "content": pyramid_l1(student, teacher),
        "adversarial": adversarial,
    }


# ------------------------------------------------------------------------------------------------ stage 2: Sec. 4.2, Eq. (3)


def run_extractor_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """M after stage 2: trained now, or read from ``settings.extractor_from``."""
    if settings.extractor_from:
        return baseline.load_detector(settings.extractor_from)[0]
    start = run_teacher_stage(settings, loader, classes, run)
    F = frozen_copy(get_extractor(start))
    run.to_device(F)
    G, D = run_interpolator_stage(settings, loader, classes, run)
    model = replace_detector(settings.model, settings.extractor_detector)
    M = baseline.build_detector(model, len(classes))
    if settings.extractor_init == "teacher":
        baseline.load_matching_weights(M, start.state_dict())
    for doubling, learned in zip(get_interpolators(M), G, strict=False):  # a head without p2 has a step less
        doubling.load_state_dict(learned.state_dict())
    train_extractor(F, M, D, settings, loader, run)
    baseline.save_detector(M, model, classes, run.folder, "extractor.safetensors")
    return M


def replace_detector(model: DetectorConfig, detector: str) -> DetectorConfig:
    """``model`` as another kind of ``detector``, with that kind's own options but the same test size; as it is if none is named."""
    if detector in ("", model.detector):
        return model
    kept = {name: value for name, value in model.detector_options.items() if name == "test_size"}
    return replace(model, detector=detector, detector_options=kept)


def train_extractor(
    F: Extractor, M: Detector, D: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run
) -> None:
    """M's pyramid against F's, with M's detection losses on what M has seen (Eq. 3)."""
    extracting, critic = _build_learners(M, D, settings.extractor, settings.adversarial)
    look, compared = batched_extractor(_cached_teacher(F, settings)), LEVEL_MATCHINGS[settings.level_matching]

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        seen = compared(look, M, (images, targets), settings.downscale)
        student, target = crop_to_match(select_levels(seen.student, settings.adversarial.levels), seen.teacher)
        critic_said, losses = adversarial_step(D, critic, student, target, settings.adversarial)
        return critic_said | extracting.step(losses | losses_from_features(M, seen.images, seen.features, seen.targets))

    fit(step, loader, settings.extractor.steps, run, {"extractor": extracting, **critic}, "extractor")
    extracting.apply_ema()


# ------------------------------------------------------------------------------------------------ stage 3: Sec. 4.3, Eqs. (4) to (7)


def run_target_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """T: the detector that is wanted, on what ``settings.reuse`` takes over, trained by its own losses on full-size pictures."""
    taken = reused_weights(settings, loader, classes, run)
    if settings.target_init == "teacher":
        taken = run_teacher_stage(settings, loader, classes, run).state_dict() | taken
    T = baseline.build_detector(settings.model, len(classes))
    fresh = baseline.load_matching_weights(T, taken)
    if run.rank == 0:
        taken_over = len(T.state_dict()) - len(fresh)
        print(
            f"The target takes over {taken_over} tensors (reuse {settings.reuse}, start {settings.target_init}); {len(fresh)} start anew."
        )
    if settings.freeze_interpolator:
        freeze(get_interpolators(T))
    baseline.train_detector(T, loader, settings.target, run, "target")
    baseline.save_detector(T, settings.model, classes, run.folder)
    return T


def reused_weights(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> dict[str, Tensor]:
    """What T starts with, by the names T has for it; the stages that make it are run (or loaded) now."""
    if settings.reuse == "none":
        return {}
    if settings.reuse == "G":
        G, _ = run_interpolator_stage(settings, loader, classes, run)
        return {f"{INTERPOLATOR_PREFIX}{name}": value for name, value in G.state_dict().items()}
    tensors = run_extractor_stage(settings, loader, classes, run).state_dict()
    return {
        name: value for name, value in tensors.items() if settings.reuse == "M" or name.startswith(INTERPOLATOR_PREFIX)
    }


def _build_learners(
    generator: nn.Module, D: nn.Module, stage: StageConfig, config: AdversarialConfig
) -> tuple[Learner, dict[str, Learner]]:
    """The player's learner, and the critic's by its name: nobody's if λ = 0."""
    critic = {"critic": Learner(D, stage.optimizer, stage.steps)} if config.weight else {}
    return Learner(generator, stage.optimizer, stage.steps), critic
