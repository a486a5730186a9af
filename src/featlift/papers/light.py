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
from featlift.data.batches import Batches
from featlift.detectors import Detector, Extractor, extractor_of
from featlift.detectors.batch_transform import Canvas
from featlift.distillation.feature_pairs import doubled
from featlift.features import Features, match
from featlift.interpolators import interpolators
from featlift.interpolators.fixed import Fixed
from featlift.losses import feature_mse
from featlift.papers import baseline
from featlift.papers.afi_gan import IN_DETECTOR
from featlift.papers.baseline import Data, Model, Stage
from featlift.resolution import cross_resolution, frozen, shrink
from featlift.training import Descent, Learner, Run, fit

Target = dict[str, Tensor]
STAGES = ("teacher", "interpolator", "target")


@dataclass(frozen=True)
class Lessons:
    """What G learns from; both are mean squares relative to the teacher's, summed over the doublings or levels (`losses.feature_mse`).

    Attributes:
        same_map: weight of "do with this map what the heavy interpolator does with it".
        twice: weight of "make of the small picture's maps what the large picture's are".
    """

    same_map: float = 1.0
    twice: float = 1.0

    def __post_init__(self) -> None:
        if not (self.same_map > 0 or self.twice > 0) or min(self.same_map, self.twice) < 0:
            raise ValueError(
                f"The weights are same_map {self.same_map} and twice {self.twice}; neither may be negative, and one must be above 0."
            )


@dataclass(frozen=True)
class Settings:
    """Distillation and tuning; the defaults suit Mask R-CNN R50-FPN on COCO.

    Attributes:
        model: T, whose interpolator is G: "light" or "light-agnostic" (any other learned one will do as well).
        data: pictures, sizes and batch; the distillation reads no labels.
        lessons: what G learns from.
        heavy: the interpolator of the teacher that is trained if ``teachers_from`` names none.
        teacher: how that one is trained.
        interpolator: the distillation.
        target: the tuning of T.
        teachers_from: run folders or detector files; T starts from the first.
        interpolator_from: folder of a run that has finished the distillation; it is then left out.
        start: what T's other parts start from: "teacher" (the first), or "weights", as ``model`` says.
    """

    model: Model = field(default_factory=lambda: Model(interpolator="light"))
    data: Data = field(default_factory=Data)
    lessons: Lessons = field(default_factory=Lessons)
    heavy: str = "afi"
    teacher: Stage = field(default_factory=lambda: Stage(90_000, baseline.one_time()))
    interpolator: Stage = field(default_factory=lambda: Stage(30_000, _steeply(1e-3)))
    target: Stage = field(default_factory=lambda: Stage(30_000, replace(baseline.one_time(), rate=2e-3)))
    teachers_from: tuple[str, ...] = ()
    interpolator_from: str = ""
    start: str = "teacher"

    def __post_init__(self) -> None:
        if self.start not in ("teacher", "weights"):
            raise ValueError(f"Unknown start '{self.start}'; choose 'teacher' or 'weights'.")

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a small Faster R-CNN with AFI on the built-in scenes teaches, one with the light interpolator learns."""
        return cls(
            model=baseline.quick_model("light"),
            data=baseline.quick_data(),
            teacher=Stage(600, baseline.quick_descent()),
            interpolator=Stage(200, _steeply(3e-3)),
            target=Stage(200, baseline.quick_descent(3e-4)),
        )


def _steeply(rate: float) -> Descent:
    return Descent("adam", rate, weight_decay=0.0, warmup=20, schedule="cosine", clip=10.0)


def train(settings: Settings, run: Run, until: str = "target") -> nn.Module:
    """The stages up to ``until``; one that ``run`` has finished is only loaded. Returns what the last stage made.

    Raises:
        ValueError: if there is no such stage.
    """
    if until not in STAGES:
        raise ValueError(f"There is no stage '{until}'; there are {', '.join(STAGES)}.")
    shown = baseline.pictures(settings.data)
    stream, classes = baseline.batches(settings.data, shown, run.seed), shown.classes
    if until == "teacher":
        return teachers(settings, stream, classes, run)[0]
    if until == "interpolator":
        return interpolator(settings, stream, classes, run)
    return target(settings, stream, classes, run)


def teachers(settings: Settings, stream: Batches, classes: Sequence[str], run: Run) -> list[Detector]:
    """The detectors that F are taken from: those named, or T's network with the heavy interpolator, trained now."""
    if settings.teachers_from:
        return [baseline.load(path)[0] for path in settings.teachers_from]
    model = replace(settings.model, interpolator=settings.heavy, interpolator_options={})
    detector = baseline.build(model, len(classes))
    baseline.descend(detector, stream, settings.teacher, run, "teacher")
    baseline.save(detector, model, classes, run.folder, "teacher.safetensors")
    return [detector]


# ------------------------------------------------------------------------------------------------ distillation


def interpolator(settings: Settings, stream: Batches, classes: Sequence[str], run: Run) -> nn.ModuleList:
    """G after the distillation: taught now, or read from ``settings.interpolator_from``, whatever pyramid it was taught on.

    Raises:
        FileNotFoundError, ValueError: if there is no G of another run, or it does not fit.
    """
    steps = detectors.doublings_of(settings.model.detector, settings.model.pyramid)
    model = settings.model
    G = nn.ModuleList(interpolators(model.interpolator, model.channels, steps, **model.interpolator_options))
    if settings.interpolator_from:
        for part, file in zip(G, part_files(Path(settings.interpolator_from), len(G)), strict=True):
            checkpoints.load_state(part, file)
        return G
    F = [frozen(extractor_of(teacher)) for teacher in teachers(settings, stream, classes, run)]
    for one in F:
        run.place(one)
    distil(F, G, settings, stream, run)
    if run.rank == 0:
        for part, file in zip(G, part_files(run.folder, len(G)), strict=True):
            checkpoints.save(part, file)
    return G


def part_files(folder: Path, count: int) -> list[Path]:
    """Where a run keeps its interpolator, or one for each step."""
    return [folder / ("G.safetensors" if count == 1 else f"G{i}.safetensors") for i in range(count)]


def distil(F: Sequence[Extractor], G: nn.ModuleList, settings: Settings, stream: Batches, run: Run) -> None:
    """G beside each F's own interpolators, and after F of the small picture; the losses of all F are summed.

    Raises:
        ValueError: if G is to learn from an F that doubles without parameters.
    """
    if settings.lessons.same_map:
        _refuse_unlearned(F)
    learner = Learner(G, settings.interpolator.descent, settings.interpolator.steps)

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        losses = [lessons(one, G, images, settings.lessons) for one in F]
        names = losses[0]
        return learner.descend({name: sum((each[name] for each in losses[1:]), names[name]) for name in names})

    fit(step, stream, settings.interpolator.steps, run, {"interpolator": learner}, "interpolator")


def lessons(F: Extractor, G: nn.ModuleList, images: list[Tensor], weights: Lessons) -> dict[str, Tensor]:
    """What G has still to learn from one F on these pictures, each term with its weight; a term of weight 0 is left out."""
    look, terms = Canvas(F.mean), {}
    seen = lambda pictures: F(look(pictures)[0].tensors)  # noqa: E731
    with watched(F.pyramid.interpolators) as doublings:  # type: ignore[arg-type]
        if weights.twice:
            low, high = cross_resolution(seen, lambda small: doubled(G, seen(small)), images, shrink)
            terms["twice"] = weights.twice * feature_mse(*match(low, high), scale_free=True)
        else:
            seen(images)
    if weights.same_map:
        terms["same_map"] = weights.same_map * feature_mse(*beside(G, doublings), scale_free=True)
    return terms


@contextmanager
def watched(heavy: nn.ModuleList) -> Iterator[list[tuple[int, Tensor, Tensor]]]:
    """Collects what each of ``heavy`` is given and gives: (number of its doubling, ``[B, C, H, W]``, ``[B, C, 2H, 2W]``)."""
    seen: list[tuple[int, Tensor, Tensor]] = []

    def note(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        seen.append((len(seen), given[0], out))

    handles = [module.register_forward_hook(note) for module in heavy]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def beside(G: nn.ModuleList, doublings: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[Features, Features]:
    """G's answers to the maps that were doubled, and the heavy one's; with an interpolator per step each answers for its own."""
    return (
        {str(number): G[number % len(G)](x) for number, x, _ in doublings},
        {str(number): y.detach() for number, _, y in doublings},
    )


def _refuse_unlearned(F: Sequence[Extractor]) -> None:
    for one in F:
        fixed = [g.mode for g in one.pyramid.interpolators if isinstance(g, Fixed)]  # type: ignore[union-attr]
        if fixed:
            raise ValueError(
                f"A teacher doubles its maps with {fixed[0]} interpolation: there is nothing to learn from that. "
                "Set lessons.same_map to 0 to learn from its pyramid at twice the size alone, or name a run with a learned interpolator."
            )


# ------------------------------------------------------------------------------------------------ tuning


def target(settings: Settings, stream: Batches, classes: Sequence[str], run: Run) -> Detector:
    """T with G in its pyramid, the rest from the first teacher or new, tuned by its own losses."""
    G = interpolator(settings, stream, classes, run)
    T = baseline.build(settings.model, len(classes))
    taken = {f"{IN_DETECTOR}{name}": value for name, value in G.state_dict().items()}
    if settings.start == "teacher":
        first = teachers(settings, stream, classes, run)[0].state_dict()
        taken |= {name: value for name, value in first.items() if not name.startswith(IN_DETECTOR)}
    baseline.adopt(T, taken)
    baseline.descend(T, stream, settings.target, run, "target")
    baseline.save(T, settings.model, classes, run.folder)
    return T
