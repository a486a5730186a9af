"""Distillation of a light interpolator, and fine-tuning of its detector."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from featlift import checkpoints, detectors
from featlift.baseline.training import save_trained_detector, train_detector
from featlift.data.batches import ResumableDataLoader
from featlift.data.config import build_train_loader, load_training_set
from featlift.detectors import Detector, Extractor, get_extractor
from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.checkpoint import (
    INTERPOLATOR_PREFIX,
    describe_copied,
    interpolator_weight_files,
    load_detector,
    load_matching_weights,
)
from featlift.detectors.config import build_detector
from featlift.detectors.feature_extraction import record_calls
from featlift.distillation.feature_pairs import repeat_batch, steps_of_levels, upsample_levels
from featlift.features import Features, Target, crop_to_match
from featlift.interpolators import build_interpolators
from featlift.interpolators.fixed import FixedInterpolator
from featlift.losses import feature_mse
from featlift.papers.light.settings import STAGES, DistillationWeights, Settings
from featlift.registry import check_choice
from featlift.resolution import cross_resolution, downscale_images, frozen_copy
from featlift.training import Learner, Run, fit


def train(settings: Settings, run: Run, stop_after: str = "target") -> nn.Module:
    """Run the stages up to ``stop_after`` and return the result of that stage; a stage that ``run`` has finished is only loaded.

    Raises:
        ValueError: If there is no such stage.
    """
    check_choice(stop_after, STAGES, "stage")
    dataset = load_training_set(settings.data, run)
    loader = build_train_loader(settings.data, dataset, run.seed)
    if stop_after == "teacher":
        return run_teachers_stage(settings, loader, dataset.classes, run)[0]
    if stop_after == "interpolator":
        return run_distillation_stage(settings, loader, dataset.classes, run)
    return run_tuning_stage(settings, loader, dataset.classes, run)


def run_teachers_stage(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> list[Detector]:
    """Return the detectors whose extractors are F: loaded from ``teachers_from``, or T's network trained with ``teacher_interpolator``."""
    if settings.teachers_from:
        return [load_detector(path)[0] for path in settings.teachers_from]
    model = replace(settings.model, interpolator=settings.teacher_interpolator, interpolator_options={})
    detector = build_detector(model, len(classes))
    train_detector(detector, loader, settings.teacher, run, "teacher")
    save_trained_detector(run, detector, model, classes, "teacher.safetensors")
    return [detector]


def run_distillation_stage(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> nn.ModuleList:
    """Return G after the distillation: distilled, or loaded from ``settings.interpolator_from``, even if trained in another pyramid.

    Raises:
        FileNotFoundError: If the run of ``settings.interpolator_from`` has no G.
        ValueError: If its G does not fit.
    """
    model = settings.model
    num_steps = detectors.num_upsampling_steps(model.detector, model.pyramid)
    G = nn.ModuleList(
        build_interpolators(model.interpolator, model.pyramid_channels, num_steps, **model.interpolator_options)
    )
    if settings.interpolator_from:
        for module, file in zip(G, interpolator_weight_files(Path(settings.interpolator_from), len(G)), strict=True):
            checkpoints.load_state_file(module, file)
        return G
    F = [frozen_copy(get_extractor(teacher)) for teacher in run_teachers_stage(settings, loader, classes, run)]
    for extractor in F:
        run.to_device(extractor)
    distill_interpolator(F, G, settings, loader, run)
    if run.rank == 0:
        for module, file in zip(G, interpolator_weight_files(run.folder, len(G)), strict=True):
            checkpoints.save(module, file)
    return G


def distill_interpolator(
    F: Sequence[Extractor], G: nn.ModuleList, settings: Settings, loader: ResumableDataLoader, run: Run
) -> None:
    """Train G with :func:`distillation_losses`, summed over all F.

    Raises:
        ValueError: If the same-resolution loss is used with an F whose interpolator has no parameters.
    """
    if settings.loss_weights.same_resolution:
        _check_learned_teachers(F)
    learner = Learner(G, settings.interpolator.optimizer, settings.interpolator.steps)

    step_levels = detectors.upsampled_levels(settings.model.detector, settings.model.pyramid)

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        first, *others = [
            distillation_losses(extractor, G, step_levels, images, settings.loss_weights) for extractor in F
        ]
        return learner.step({name: sum((losses[name] for losses in others), loss) for name, loss in first.items()})

    fit(step, loader, settings.interpolator.steps, run, {"interpolator": learner}, "interpolator")


def distillation_losses(
    F: Extractor, G: nn.ModuleList, step_levels: Sequence[str], images: list[Tensor], weights: DistillationWeights
) -> dict[str, Tensor]:
    """Return the weighted losses of G with ``F`` as teacher on ``images [3, H, W]``; losses of weight 0 are omitted.

    ``step_levels`` are the levels that the upsampling steps of G's pyramid upsample (``pyramid.upsampled_levels``).
    """
    transform, losses = BatchTransform(F.mean), {}
    extract = lambda images: F(transform(images)[0].tensors)  # noqa: E731
    with record_calls(F.pyramid.interpolators) as calls:  # type: ignore[arg-type]
        if weights.cross_resolution:
            low, high = cross_resolution(
                extract, lambda small: upsample_levels(G, step_levels, extract(small)), images, downscale_images
            )
            student, teacher = crop_to_match(low, high)
            loss = feature_mse(student, repeat_batch(teacher, student), scale_free=True)
            losses["cross_resolution"] = weights.cross_resolution * loss
        else:
            extract(images)
    if weights.same_resolution:
        student, teacher = student_teacher_outputs(G, step_levels, calls, F.pyramid.upsampled_levels)  # type: ignore[arg-type]
        loss = feature_mse(student, teacher, scale_free=True)
        losses["same_resolution"] = weights.same_resolution * loss
    return losses


def student_teacher_outputs(
    G: nn.ModuleList,
    step_levels: Sequence[str],
    calls: Sequence[tuple[nn.Module, tuple[Tensor, ...], Tensor]],
    call_levels: Sequence[str],
) -> tuple[Features, Features]:
    """Return the outputs of G and of the teacher for the recorded inputs.

    With an interpolator per step, each handles its own step if both pyramids are alike; otherwise the steps of the call's level.

    Args:
        G: Interpolators of a pyramid whose steps upsample ``step_levels``.
        step_levels: See `featlift.distillation.feature_pairs.steps_of_levels`.
        calls: (module, inputs, output) of the teacher's interpolators, of maps ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``.
        call_levels: Levels that the calls of one forward pass upsample.
    """
    by_level, alike = steps_of_levels(call_levels, step_levels, len(G)), tuple(call_levels) == tuple(step_levels)
    student, teacher = {}, {}
    for number, (_, inputs, output) in enumerate(calls):
        step = number % len(call_levels)
        steps = [step % len(G)] if alike else by_level[call_levels[step]]
        student[str(number)] = torch.cat([G[i](*inputs) for i in steps])
        teacher[str(number)] = output.detach()
    return student, repeat_batch(teacher, student)


def _check_learned_teachers(F: Sequence[Extractor]) -> None:
    for extractor in F:
        fixed = [g.mode for g in extractor.pyramid.interpolators if isinstance(g, FixedInterpolator)]  # type: ignore[union-attr]
        if fixed:
            raise ValueError(
                f"A teacher upsamples with fixed {fixed[0]} interpolation, which cannot be distilled. Set "
                "loss_weights.same_resolution to 0 to use only the cross-resolution loss, or give a run with a learned interpolator."
            )


def run_tuning_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """Return T with G in its pyramid, the rest from the first teacher or new, fine-tuned with its detection losses."""
    G = run_distillation_stage(settings, loader, classes, run)
    T = build_detector(settings.model, len(classes))
    weights = {f"{INTERPOLATOR_PREFIX}{name}": value for name, value in G.state_dict().items()}
    if settings.target_init == "teacher":
        teacher = run_teachers_stage(settings, loader, classes, run)[0].state_dict()
        weights |= {name: value for name, value in teacher.items() if not name.startswith(INTERPOLATOR_PREFIX)}
    copied = describe_copied(T, load_matching_weights(T, weights), "the teacher and the interpolator")
    if run.rank == 0:
        print(copied)
    train_detector(T, loader, settings.target, run, "target")
    save_trained_detector(run, T, settings.model, classes)
    return T
