"""AFI-GAN's three stages (Secs. 4.1 to 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from featlift import checkpoints, detectors
from featlift.baseline.best_checkpoint import BestCheckpoint
from featlift.baseline.training import save_trained_detector, train_detector
from featlift.data.batches import ResumableDataLoader
from featlift.data.config import build_train_loader, load_training_set
from featlift.detectors import Detector, Extractor, get_extractor, get_interpolators, losses_from_features
from featlift.detectors.checkpoint import (
    INTERPOLATOR_PREFIX,
    interpolator_weight_files,
    load_detector,
    load_matching_weights,
)
from featlift.detectors.config import DetectorConfig, build_detector, build_pyramid_interpolators, replace_detector
from featlift.distillation.discriminator import PatchDiscriminator
from featlift.distillation.feature_cache import CachedExtractor
from featlift.distillation.feature_pairs import (
    LEVEL_MATCHINGS,
    batched_extractor,
    compared_levels,
    downscale_views,
    repeat_batch,
    select_levels,
    upsample_levels,
)
from featlift.distillation.patch_sampling import sample_patches
from featlift.features import Features, Target, crop_to_match
from featlift.losses import (
    discriminator_accuracy,
    discriminator_logits,
    discriminator_loss,
    generator_adversarial_loss,
    pyramid_l1,
)
from featlift.papers.afi_gan.reused_tensors import renumber_interpolators, select_prefix
from featlift.papers.afi_gan.self_training import train_on_pseudo_labels
from featlift.papers.afi_gan.settings import STAGES, AdversarialConfig, Settings
from featlift.registry import check_choice
from featlift.resolution import cross_resolution, freeze, frozen_copy
from featlift.training import Learner, Run, fit
from featlift.training.schedules import StageConfig


def train(settings: Settings, run: Run, stop_after: str = "target") -> nn.Module:
    """Run the stages up to ``stop_after`` and return the result of that stage; a stage that ``run`` has finished is only loaded.

    Stages run on demand: reuse "none" needs only the target stage, "G" does not need the extractor stage.

    Raises:
        ValueError: If there is no such stage.
    """
    check_choice(stop_after, STAGES, "stage")
    dataset = load_training_set(settings.data, run)
    loader = build_train_loader(settings.data, dataset, run.seed, settings.downscale.from_original)
    if stop_after == "target":
        return run_target_stage(settings, loader, dataset.classes, run)
    if stop_after == "teacher":
        return run_teacher_stage(settings, loader, dataset.classes, run)
    if stop_after == "interpolator":
        return run_interpolator_stage(settings, loader, dataset.classes, run)[0]
    return run_extractor_stage(settings, loader, dataset.classes, run)


def run_teacher_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """Return the detector of F: loaded from ``settings.teacher_from``, or M's network, trained with nearest interpolation."""
    if settings.teacher_from:
        return load_detector(settings.teacher_from)[0]
    model = replace(extractor_model(settings), interpolator="nearest", interpolator_options={})
    detector = build_detector(model, len(classes))
    train_detector(detector, loader, settings.teacher, run, "teacher")
    save_trained_detector(run, detector, model, classes, "teacher.safetensors")
    return detector


def extractor_model(settings: Settings) -> DetectorConfig:
    """Return the configuration of M, and of F if it is trained: T's, with the head of ``settings.extractor_detector`` (Table 3)."""
    return replace_detector(settings.model, settings.extractor_detector)


def run_interpolator_stage(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> tuple[nn.ModuleList, PatchDiscriminator]:
    """Return G and D after stage 1: trained, or loaded from ``settings.interpolator_from``. Fixed interpolators need no training."""
    G = nn.ModuleList(build_pyramid_interpolators(extractor_model(settings)))
    D = settings.adversarial.build_discriminator(settings.model.pyramid_channels)
    modules = [*G, D] if settings.adversarial.weight else [*G]  # λ = 0: D is not trained and has no file
    if settings.interpolator_from:
        for module, file in zip(modules, _weight_files(Path(settings.interpolator_from), len(G)), strict=False):
            checkpoints.load_state_file(module, file)
    elif any(True for _ in G.parameters()):
        F = frozen_copy(get_extractor(run_teacher_stage(settings, loader, classes, run)))
        run.to_device(F)
        pretrain_interpolator(F, G, D, settings, loader, run)
        if run.rank == 0:
            for module, file in zip(modules, _weight_files(run.folder, len(G)), strict=False):
                checkpoints.save(module, file)
    return G, D


def _weight_files(folder: Path, num_interpolators: int) -> list[Path]:
    """Return the files of a run's interpolators and of its discriminator; `featlift.checkpoints.load` loads each."""
    return [*interpolator_weight_files(folder, num_interpolators), folder / "D.safetensors"]


def pretrain_interpolator(
    F: Extractor, G: nn.ModuleList, D: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run
) -> None:
    """Stage 1: train G(F(½ image)) to match F(image) on every level; D minimizes Eq. (1), G minimizes Eq. (2)."""
    generator, discriminator = _build_learners(G, D, settings.interpolator, settings.adversarial)
    extract, levels = batched_extractor(_cached_teacher(F, settings)), compared_levels(F, settings.adversarial.levels)
    step_levels = detectors.upsampled_levels(extractor_model(settings).detector, settings.model.pyramid)

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        low, high = cross_resolution(
            teacher=extract,
            student=lambda small: upsample_levels(G, step_levels, select_levels(extract(small), levels)),
            image=images,
            downscale=lambda images: downscale_views(images, targets, settings.downscale),
        )
        student, teacher = crop_to_match(low, high)
        teacher = repeat_batch(teacher, student)
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


def run_extractor_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """Return M after stage 2: trained, or loaded from ``settings.extractor_from``."""
    if settings.extractor_from:
        return load_detector(settings.extractor_from)[0]
    teacher = run_teacher_stage(settings, loader, classes, run)
    F = frozen_copy(get_extractor(teacher))
    run.to_device(F)
    G, D = run_interpolator_stage(settings, loader, classes, run)
    M = build_detector(extractor_model(settings), len(classes))
    if settings.extractor_init == "teacher":
        load_matching_weights(M, teacher.state_dict())
    get_interpolators(M).load_state_dict(G.state_dict())
    train_extractor(F, M, D, settings, loader, run)
    save_trained_detector(run, M, extractor_model(settings), classes, "extractor.safetensors")
    return M


def train_extractor(
    F: Extractor, M: Detector, D: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run
) -> None:
    """Stage 2: train M's pyramid to match F's, together with M's detection losses on the same features, Eq. (3)."""
    extractor, discriminator = _build_learners(M, D, settings.extractor, settings.adversarial)
    extract, levels = batched_extractor(_cached_teacher(F, settings)), compared_levels(F, settings.adversarial.levels)

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        pair = LEVEL_MATCHINGS[settings.level_matching](extract, M, (images, targets), settings.downscale)
        student, teacher = crop_to_match(select_levels(pair.student, levels), pair.teacher)
        discriminator_log, losses = adversarial_step(D, discriminator, student, teacher, settings.adversarial)
        detection_losses = losses_from_features(M, pair.images, pair.features, pair.targets)
        return discriminator_log | extractor.step(losses | detection_losses)

    fit(step, loader, settings.extractor.steps, run, {"extractor": extractor, **discriminator}, "extractor")
    extractor.apply_ema()


def run_target_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """Return T: initialized with the weights of ``settings.reuse`` and trained with its detection losses on full-size images."""
    weights = reused_weights(settings, loader, classes, run)
    if settings.target_init == "teacher":
        weights = run_teacher_stage(settings, loader, classes, run).state_dict() | weights
    T = build_detector(settings.model, len(classes))
    unchanged = load_matching_weights(T, weights)
    if run.rank == 0:
        print(
            f"The target reuses {len(T.state_dict()) - len(unchanged)} tensors (reuse {settings.reuse}, "
            f"target_init {settings.target_init}); {len(unchanged)} keep their initialization."
        )
    if settings.freeze_interpolator:
        freeze(get_interpolators(T))
    best = BestCheckpoint(run, T, settings.model, settings.data, classes)
    if settings.self_training.unlabeled_images:
        train_on_pseudo_labels(T, settings.self_training, settings.data, settings.target, run, best)
    else:
        train_detector(T, loader, settings.target, run, "target", best)
    save_trained_detector(run, T, settings.model, classes)
    return T


def reused_weights(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> dict[str, Tensor]:
    """Return the weights that T reuses, with T's tensor names, after running (or loading) the stages they need."""
    if settings.reuse == "none":
        return {}
    if settings.reuse == "G":
        G, _ = run_interpolator_stage(settings, loader, classes, run)
        weights = {f"{INTERPOLATOR_PREFIX}{name}": value for name, value in G.state_dict().items()}
    else:
        weights = run_extractor_stage(settings, loader, classes, run).state_dict()
        if settings.reuse == "G_from_M":
            weights = select_prefix(weights, INTERPOLATOR_PREFIX)
    return renumber_interpolators(weights, settings.model, extractor_model(settings))


def _build_learners(
    generator: nn.Module, D: nn.Module, stage: StageConfig, config: AdversarialConfig
) -> tuple[Learner, dict[str, Learner]]:
    """Return the generator's learner and ``{"discriminator": learner}``, which is empty if λ = 0."""
    discriminator = {"discriminator": Learner(D, stage.optimizer, stage.steps)} if config.weight else {}
    return Learner(generator, stage.optimizer, stage.steps), discriminator
