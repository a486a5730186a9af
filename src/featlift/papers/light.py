"""Light interpolators, taught by heavy ones: the answer to the last sentence of SRF-GAN's and AFI-GAN's conclusions. (No paper; ours.)

F are frozen extractors that are already good, G the light interpolator, T the detector that is wanted. The distillation needs pictures and
no labels. G learns from two teachers at once: what F's own heavy interpolators make of the maps that they double (the same maps, G beside
them), and what F's pyramid says of the picture at twice the size (AFI-GAN's stage 1, without its critic). Then T, with G in its pyramid,
is tuned by its own losses.

G may learn from several F at once. With the channel-agnostic form their pyramids may have different numbers of channels, and what was
learned from them is used on a pyramid that none of them has (``interpolator_from``).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from featlift import checkpoints, detectors
from featlift.data.batches import ResumableDataLoader
from featlift.detectors import Detector, Extractor, get_extractor
from featlift.detectors.batch_transform import BatchTransform
from featlift.distillation.feature_pairs import upsample_levels
from featlift.features import Features, crop_to_match
from featlift.interpolators import build_interpolators
from featlift.interpolators.fixed import FixedInterpolator
from featlift.losses import feature_mse
from featlift.papers import baseline
from featlift.papers.afi_gan import INTERPOLATOR_PREFIX
from featlift.papers.baseline import DataConfig, DetectorConfig, StageConfig
from featlift.resolution import cross_resolution, downscale_images, frozen_copy
from featlift.training import Learner, OptimizerConfig, Run, fit

Target = dict[str, Tensor]
STAGES = ("teacher", "interpolator", "target")


@dataclass(frozen=True)
class DistillationWeights:
    """What G learns from; both are mean squares relative to the teacher's, summed over the doublings or levels (`losses.feature_mse`).

    Attributes:
        same_resolution: weight of "do with this map what the heavy interpolator does with it".
        cross_resolution: weight of "make of the small picture's maps what the large picture's are".
    """

    same_resolution: float = 1.0
    cross_resolution: float = 1.0

    def __post_init__(self) -> None:
        if (
            not (self.same_resolution > 0 or self.cross_resolution > 0)
            or min(self.same_resolution, self.cross_resolution) < 0
        ):
            raise ValueError(
                f"The weights are same_map {self.same_resolution} and twice {self.cross_resolution}; neither may be negative, and one must be above 0."
            )


@dataclass(frozen=True)
class Settings:
    """Distillation and tuning; the defaults suit Mask R-CNN R50-FPN on COCO.

    Attributes:
        model: T, whose interpolator is G: "light" or "light-agnostic" (any other learned one will do as well).
        data: pictures, sizes and batch; the distillation reads no labels.
        loss_weights: what G learns from.
        teacher_interpolator: the interpolator of the teacher that is trained if ``teachers_from`` names none.
        teacher: how that one is trained.
        interpolator: the distillation.
        target: the tuning of T.
        teachers_from: run folders or detector files; T starts from the first.
        interpolator_from: folder of a run that has finished the distillation; it is then left out.
        target_init: what T's other parts start from: "teacher" (the first), or "weights", as ``model`` says.
    """

    model: DetectorConfig = field(default_factory=lambda: DetectorConfig(interpolator="light"))
    data: DataConfig = field(default_factory=DataConfig)
    loss_weights: DistillationWeights = field(default_factory=DistillationWeights)
    teacher_interpolator: str = "afi"
    teacher: StageConfig = field(default_factory=lambda: StageConfig(90_000, baseline.sgd_1x()))
    interpolator: StageConfig = field(default_factory=lambda: StageConfig(30_000, _adam_cosine(1e-3)))
    target: StageConfig = field(default_factory=lambda: StageConfig(30_000, replace(baseline.sgd_1x(), lr=2e-3)))
    teachers_from: tuple[str, ...] = ()
    interpolator_from: str = ""
    target_init: str = "teacher"

    def __post_init__(self) -> None:
        if self.target_init not in ("teacher", "weights"):
            raise ValueError(f"Unknown start '{self.target_init}'; choose 'teacher' or 'weights'.")

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a small Faster R-CNN with AFI on the built-in scenes teaches, one with the light interpolator learns."""
        return cls(
            model=baseline.quick_detector_config("light"),
            data=baseline.quick_data_config(),
            teacher=StageConfig(600, baseline.quick_optimizer()),
            interpolator=StageConfig(200, _adam_cosine(3e-3)),
            target=StageConfig(200, baseline.quick_optimizer(3e-4)),
        )


def _adam_cosine(lr: float) -> OptimizerConfig:
    return OptimizerConfig("adam", lr, weight_decay=0.0, warmup_steps=20, schedule="cosine", max_grad_norm=10.0)


def train(settings: Settings, run: Run, stop_after: str = "target") -> nn.Module:
    """The stages up to ``stop_after``; one that ``run`` has finished is only loaded. Returns what the last stage made.

    Raises:
        ValueError: if there is no such stage.
    """
    if stop_after not in STAGES:
        raise ValueError(f"There is no stage '{stop_after}'; there are {', '.join(STAGES)}.")
    shown = baseline.build_dataset(settings.data)
    stream, classes = baseline.build_train_loader(settings.data, shown, run.seed), shown.classes
    if stop_after == "teacher":
        return run_teachers_stage(settings, stream, classes, run)[0]
    if stop_after == "interpolator":
        return run_distillation_stage(settings, stream, classes, run)
    return run_tuning_stage(settings, stream, classes, run)


def run_teachers_stage(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> list[Detector]:
    """The detectors that F are taken from: those named, or T's network with the heavy interpolator, trained now."""
    if settings.teachers_from:
        return [baseline.load_detector(path)[0] for path in settings.teachers_from]
    model = replace(settings.model, interpolator=settings.teacher_interpolator, interpolator_options={})
    detector = baseline.build_detector(model, len(classes))
    baseline.train_detector(detector, loader, settings.teacher, run, "teacher")
    baseline.save_detector(detector, model, classes, run.folder, "teacher.safetensors")
    return [detector]


# ------------------------------------------------------------------------------------------------ distillation


def run_distillation_stage(
    settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run
) -> nn.ModuleList:
    """G after the distillation: taught now, or read from ``settings.interpolator_from``, whatever pyramid it was taught on.

    Raises:
        FileNotFoundError, ValueError: if there is no G of another run, or it does not fit.
    """
    steps = detectors.num_upsampling_steps(settings.model.detector, settings.model.pyramid)
    model = settings.model
    G = nn.ModuleList(
        build_interpolators(model.interpolator, model.pyramid_channels, steps, **model.interpolator_options)
    )
    if settings.interpolator_from:
        for part, file in zip(G, interpolator_weight_files(Path(settings.interpolator_from), len(G)), strict=True):
            checkpoints.load_state_file(part, file)
        return G
    F = [frozen_copy(get_extractor(teacher)) for teacher in run_teachers_stage(settings, loader, classes, run)]
    for one in F:
        run.to_device(one)
    distil_interpolator(F, G, settings, loader, run)
    if run.rank == 0:
        for part, file in zip(G, interpolator_weight_files(run.folder, len(G)), strict=True):
            checkpoints.save(part, file)
    return G


def interpolator_weight_files(folder: Path, num_interpolators: int) -> list[Path]:
    """Where a run keeps its interpolator, or one for each step."""
    return [
        folder / ("G.safetensors" if num_interpolators == 1 else f"G{i}.safetensors") for i in range(num_interpolators)
    ]


def distil_interpolator(
    F: Sequence[Extractor], G: nn.ModuleList, settings: Settings, loader: ResumableDataLoader, run: Run
) -> None:
    """G beside each F's own interpolators, and after F of the small picture; the losses of all F are summed.

    Raises:
        ValueError: if G is to learn from an F that doubles without parameters.
    """
    if settings.loss_weights.same_resolution:
        _check_learned_teachers(F)
    learner = Learner(G, settings.interpolator.optimizer, settings.interpolator.steps)

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        losses = [distillation_losses(one, G, images, settings.loss_weights) for one in F]
        names = losses[0]
        return learner.step({name: sum((each[name] for each in losses[1:]), names[name]) for name in names})

    fit(step, loader, settings.interpolator.steps, run, {"interpolator": learner}, "interpolator")


def distillation_losses(
    F: Extractor, G: nn.ModuleList, images: list[Tensor], weights: DistillationWeights
) -> dict[str, Tensor]:
    """What G has still to learn from one F on these pictures, each term with its weight; a term of weight 0 is left out."""
    look, terms = BatchTransform(F.mean), {}
    seen = lambda pictures: F(look(pictures)[0].tensors)  # noqa: E731
    with record_interpolators(F.pyramid.interpolators) as doublings:  # type: ignore[arg-type]
        if weights.cross_resolution:
            low, high = cross_resolution(seen, lambda small: upsample_levels(G, seen(small)), images, downscale_images)
            terms["twice"] = weights.cross_resolution * feature_mse(*crop_to_match(low, high), scale_free=True)
        else:
            seen(images)
    if weights.same_resolution:
        terms["same_map"] = weights.same_resolution * feature_mse(
            *student_teacher_outputs(G, doublings), scale_free=True
        )
    return terms


@contextmanager
def record_interpolators(interpolators: nn.ModuleList) -> Iterator[list[tuple[int, Tensor, Tensor]]]:
    """Collects what each of ``interpolators`` is given and gives: (number of its doubling, ``[B, C, H, W]``, ``[B, C, 2H, 2W]``)."""
    seen: list[tuple[int, Tensor, Tensor]] = []

    def note(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        seen.append((len(seen), given[0], out))

    handles = [module.register_forward_hook(note) for module in interpolators]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def student_teacher_outputs(
    G: nn.ModuleList, records: Sequence[tuple[int, Tensor, Tensor]]
) -> tuple[Features, Features]:
    """G's answers to the maps that were doubled, and the heavy one's; with an interpolator per step each answers for its own."""
    return (
        {str(number): G[number % len(G)](x) for number, x, _ in records},
        {str(number): y.detach() for number, _, y in records},
    )


def _check_learned_teachers(F: Sequence[Extractor]) -> None:
    for one in F:
        fixed = [g.mode for g in one.pyramid.interpolators if isinstance(g, FixedInterpolator)]  # type: ignore[union-attr]
        if fixed:
            raise ValueError(
                f"A teacher doubles its maps with {fixed[0]} interpolation: there is nothing to learn from that. "
                "Set lessons.same_map to 0 to learn from its pyramid at twice the size alone, or name a run with a learned interpolator."
            )


# ------------------------------------------------------------------------------------------------ tuning


def run_tuning_stage(settings: Settings, loader: ResumableDataLoader, classes: Sequence[str], run: Run) -> Detector:
    """T with G in its pyramid, the rest from the first teacher or new, tuned by its own losses."""
    G = run_distillation_stage(settings, loader, classes, run)
    T = baseline.build_detector(settings.model, len(classes))
    taken = {f"{INTERPOLATOR_PREFIX}{name}": value for name, value in G.state_dict().items()}
    if settings.target_init == "teacher":
        first = run_teachers_stage(settings, loader, classes, run)[0].state_dict()
        taken |= {name: value for name, value in first.items() if not name.startswith(INTERPOLATOR_PREFIX)}
    baseline.load_matching_weights(T, taken)
    baseline.train_detector(T, loader, settings.target, run, "target")
    baseline.save_detector(T, settings.model, classes, run.folder)
    return T
