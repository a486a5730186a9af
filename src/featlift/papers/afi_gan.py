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
from featlift.data.batches import Batches
from featlift.detectors import Detector, Extractor, extractor_of, interpolators_of, losses_on
from featlift.discriminators import PatchCritic
from featlift.distillation.feature_cache import Kept
from featlift.distillation.feature_pairs import SEMANTICS, Halving, chosen, doubled, half, looking
from featlift.distillation.patch_sampling import glimpses
from featlift.features import Features, match
from featlift.losses import content, critic_accuracy, fool, judge, tell_apart_logits
from featlift.papers import baseline
from featlift.papers.baseline import Data, Model, Stage
from featlift.resolution import cross_resolution, freeze, frozen
from featlift.training import Descent, Learner, Run, fit

Target = dict[str, Tensor]
STAGES = ("teacher", "interpolator", "extractor", "target")
DETECTING = ("teacher", "extractor", "target")
IN_DETECTOR = "backbone.pyramid.interpolators."
STARTS = ("weights", "teacher")
REUSE = ("none", "G", "G_from_M", "M")


def _slowly(rate: float, *milestones: float) -> Descent:
    return Descent("sgd", rate, momentum=0.9, weight_decay=1e-4, schedule="steps", milestones=milestones)


@dataclass(frozen=True)
class Adversary:
    """The game between G and D, and what is compared.

    Attributes:
        weight: λ of the adversarial term (Sec. 4.1); with 0 there is no critic at all.
        end: side of the critic's last convolution: 3 (AFI-GAN), 1 (SRF-GAN's text).
        init: start of the critic's last layer: "small", or "official" (first logits of ±29).
        width: of the critic, 2 in the papers; 1 has a quarter of the cost.
        levels: those that are compared; empty means all that F has.
        alive: whether the adversarial term reaches G; the published code detaches it, so that it trains nothing.
        windows: how many windows of each large map the critic looks at in a step (`featlift.distillation.patch_sampling`), an estimate of Eqs. (1) and (2)
            without bias but for batch norm's statistics; 0 (the paper's) looks at all.
    """

    weight: float = 1e-3
    end: int = 3
    init: str = "small"
    width: int = 2
    levels: tuple[str, ...] = ()
    alive: bool = True
    windows: int = 0


@dataclass(frozen=True)
class Settings:
    """The three stages. Defaults are the paper's: Mask R-CNN R50-FPN, 150k + 270k + 90k steps of 16 pictures.

    Attributes:
        model: T, whose interpolator is G.
        data: pictures, sizes and batch.
        adversary: the game of stages 1 and 2.
        halving: how the low-resolution view is made.
        teacher: how F is trained, if ``teacher_from`` names none: T's network with nearest interpolation.
        interpolator: stage 1.
        extractor: stage 2.
        target: stage 3.
        teacher_from: run folder or detector file of F.
        teacher_maps: folder in which F's maps of every picture are kept, so that F looks at each once (`featlift.distillation.feature_cache`); for
            sets of pictures whose maps fit on the disk. Empty keeps none.
        interpolator_from: folder of a run that has finished stage 1; it is then left out.
        extractor_from: run folder or detector file of M; stages 1 and 2 are then left out.
        extractor_detector: the head that M is trained with (Table 3); empty means T's.
        semantics: what stage 2 compares (Table 7): the "same" levels of two views, or "different" levels of one.
        extractor_start: what M's other parts start from: "weights" (as T would) or "teacher" (F, as the published code does).
        reuse: what T takes over: "none" (A6), "G" of stage 1 (A2), "G_from_M", or the whole "M" (A5).
        target_start: what T's other parts start from: "weights" (the paper), or "teacher", where F is a detector of one's own that is to
            be made better.
        freeze_interpolator: keep G as it is in stage 3 (A4), its batch-norm statistics too.
    """

    model: Model = field(default_factory=lambda: Model(interpolator="afi"))
    data: Data = field(default_factory=Data)
    adversary: Adversary = field(default_factory=Adversary)
    halving: Halving = field(default_factory=Halving)
    teacher: Stage = field(default_factory=lambda: Stage(270_000, baseline.one_time()))
    interpolator: Stage = field(default_factory=lambda: Stage(150_000, _slowly(1e-3, 0.8)))  # Sec. 4.1: x 0.1 at 120k
    extractor: Stage = field(default_factory=lambda: Stage(270_000, _slowly(0.02, 7 / 9, 25 / 27)))  # 210k, 250k
    target: Stage = field(default_factory=lambda: Stage(90_000, baseline.one_time()))
    teacher_from: str = ""
    teacher_maps: str = ""
    interpolator_from: str = ""
    extractor_from: str = ""
    extractor_detector: str = ""
    semantics: str = "same"
    extractor_start: str = "weights"
    reuse: str = "G_from_M"  # Sec. 4.3: the interpolator only; the whole extractor "is also feasible"
    target_start: str = "weights"
    freeze_interpolator: bool = False

    def __post_init__(self) -> None:
        if self.reuse not in REUSE:
            raise ValueError(f"Unknown reuse '{self.reuse}'; choose one of {', '.join(REUSE)}.")
        if self.semantics not in SEMANTICS:
            raise ValueError(f"Unknown semantics '{self.semantics}'; choose one of {', '.join(SEMANTICS)}.")
        for name in ("extractor_start", "target_start"):
            if getattr(self, name) not in STARTS:
                raise ValueError(f"Unknown {name} '{getattr(self, name)}'; choose {' or '.join(map(repr, STARTS))}.")
        with_head(self.model, self.extractor_detector)

    @classmethod
    def official(cls) -> "Settings":
        """As the published code does: L1 alone teaches G, views flip apart, nearest halving, M starts from F, T takes G of M."""
        code = cls(
            model=Model(interpolator="afi", interpolator_options={"init": "official"}),
            adversary=Adversary(init="official", alive=False, levels=("p2", "p3", "p4", "p5", "p6")),
            halving=Halving(features="nearest", original=True, same_flip=False),
            interpolator=Stage(300_000, replace(_slowly(1e-3, 0.9), warmup=1000, decay_norms=False)),
            extractor=Stage(180_000, replace(_slowly(0.01, 2 / 3, 8 / 9), warmup=1000, decay_norms=False)),
            target=Stage(270_000, replace(baseline.one_time(), milestones=(7 / 9, 25 / 27))),
            extractor_start="teacher",
        )
        return replace(code, data=replace(code.data, batch=8))

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a small Faster R-CNN on the built-in scenes; M starts from F and T from M, since all weights are random."""
        return cls(
            model=baseline.quick_model("afi"),
            data=baseline.quick_data(),
            adversary=Adversary(width=1),
            teacher=Stage(400, baseline.quick_descent()),
            interpolator=Stage(40, baseline.quick_descent()),
            extractor=Stage(60, baseline.quick_descent()),
            target=Stage(300, baseline.quick_descent()),
            extractor_start="teacher",
            reuse="M",
        )

    @classmethod
    def dense(cls) -> "Settings":
        """The paper's for RetinaNet, FCOS and CenterMask: wherever such a detector is trained, half the rate."""
        paper = cls()
        stages = {name: getattr(paper, name) for name in DETECTING}
        slower = {name: replace(s, descent=replace(s.descent, rate=s.descent.rate / 2)) for name, s in stages.items()}
        return replace(paper, model=replace(paper.model, detector="retinanet"), **slower)

    @classmethod
    def transformer(cls) -> "Settings":
        """The paper's Swin rows: Cascade R-CNN on a Swin-T and a BiFPN of seven layers, AdamW wherever it is trained, T for 3x."""
        paper = cls()
        stages = {name: Stage(baseline.THREE_TIMES, baseline.adamw()) for name in DETECTING}
        return replace(paper, model=baseline.swin(paper.model.interpolator), **stages)


def train(settings: Settings, run: Run, until: str = "target") -> nn.Module:
    """The chain up to stage ``until``; a stage that ``run`` has finished is only loaded. Returns what the last stage made.

    Stages are run on demand: reuse "none" needs none before the target, "G" not the extractor.

    Raises:
        ValueError: if there is no such stage.
    """
    if until not in STAGES:
        raise ValueError(f"There is no stage '{until}'; there are {', '.join(STAGES)}.")
    shown = baseline.announced(settings.data, run)
    stream, classes = baseline.batches(settings.data, shown, run.seed, settings.halving.original), shown.classes
    if until == "target":
        return target(settings, stream, classes, run)
    if until == "teacher":
        return teacher(settings, stream, classes, run)
    if until == "interpolator":
        return interpolator(settings, stream, classes, run)[0]
    return extractor(settings, stream, classes, run)


def teacher(settings: Settings, stream: Batches, classes: Sequence[str], run: Run) -> Detector:
    """The detector that F is taken from: the one named, or T's network with nearest interpolation, trained now."""
    if settings.teacher_from:
        return baseline.load(settings.teacher_from)[0]
    model = replace(settings.model, interpolator="nearest", interpolator_options={})
    detector = baseline.build(model, len(classes))
    baseline.descend(detector, stream, settings.teacher, run, "teacher")
    baseline.save(detector, model, classes, run.folder, "teacher.safetensors")
    return detector


# ------------------------------------------------------------------------------------------------ stage 1: Sec. 4.1, Eqs. (1) and (2)


def interpolator(
    settings: Settings, stream: Batches, classes: Sequence[str], run: Run
) -> tuple[nn.ModuleList, PatchCritic]:
    """G and D after stage 1: trained now, or read from ``settings.interpolator_from``. Fixed interpolators need no training."""
    G = nn.ModuleList(baseline.doublings(settings.model))
    D = PatchCritic(settings.model.channels, settings.adversary.end, settings.adversary.init, settings.adversary.width)
    learned = [*G, D] if settings.adversary.weight else [*G]  # λ = 0: a critic that nobody asked has no file
    if settings.interpolator_from:
        for part, file in zip(learned, part_files(Path(settings.interpolator_from), len(G)), strict=False):
            checkpoints.load_state(part, file)
    elif any(True for _ in G.parameters()):
        F = frozen(extractor_of(teacher(settings, stream, classes, run)))
        run.place(F)
        pretrain_interpolator(F, G, D, settings, stream, run)
        if run.rank == 0:
            for part, file in zip(learned, part_files(run.folder, len(G)), strict=False):
                checkpoints.save(part, file)
    return G, D


def part_files(folder: Path, count: int) -> list[Path]:
    """Where a run keeps its ``count`` interpolators and its critic; `featlift.checkpoints.load` builds each from its file alone."""
    names = ["G"] if count == 1 else [f"G{i}" for i in range(count)]
    return [folder / f"{name}.safetensors" for name in [*names, "D"]]


def pretrain_interpolator(
    F: Extractor, G: nn.ModuleList, D: nn.Module, settings: Settings, stream: Batches, run: Run
) -> None:
    """G(F(½ picture)) against F(picture) on every level; D tells them apart (Eq. 1), G fools it and stays near (Eq. 2)."""
    generator, critic = _learners(G, D, settings.interpolator, settings.adversary)
    seen, compared = looking(_kept(F, settings)), settings.adversary.levels

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        low, high = cross_resolution(
            teacher=seen,
            student=lambda small: doubled(G, chosen(seen(small), compared)),
            image=images,
            shrink=lambda images: half(images, targets, settings.halving)[0],
        )
        student, target = match(low, high)
        critic_said, losses = play(D, critic, student, target, settings.adversary)
        return critic_said | generator.descend(losses)

    fit(step, stream, settings.interpolator.steps, run, {"generator": generator, **critic}, "interpolator")
    generator.keep_average()


def _kept(F: Extractor, settings: Settings) -> Extractor | Kept:
    return Kept(F, settings.teacher_maps) if settings.teacher_maps else F


def play(
    D: nn.Module, critic: Mapping[str, Learner], student: Features, teacher: Features, adversary: Adversary
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """D's turn, then what the generator's side descends on, judged by the D of after its turn.

    The student's features serve both turns; D's logits of them do not, because D has moved. Where nobody is the ``critic`` (λ = 0),
    nobody judges.
    """
    if not critic:
        return {}, {"content": content(student, teacher)}
    look = glimpses(student, adversary.windows)
    seen = look.of(student)
    fake, real = judge(D, seen, detached=True), judge(D, look.of(teacher))
    said = critic["critic"].descend({"critic": tell_apart_logits(fake, real, look.weights)})
    judged = seen if adversary.alive else {level: x.detach() for level, x in seen.items()}
    adversarial = adversary.weight * fool(D, judged, look.weights)
    return said | critic_accuracy(fake, real), {"content": content(student, teacher), "adversarial": adversarial}


# ------------------------------------------------------------------------------------------------ stage 2: Sec. 4.2, Eq. (3)


def extractor(settings: Settings, stream: Batches, classes: Sequence[str], run: Run) -> Detector:
    """M after stage 2: trained now, or read from ``settings.extractor_from``."""
    if settings.extractor_from:
        return baseline.load(settings.extractor_from)[0]
    start = teacher(settings, stream, classes, run)
    F = frozen(extractor_of(start))
    run.place(F)
    G, D = interpolator(settings, stream, classes, run)
    model = with_head(settings.model, settings.extractor_detector)
    M = baseline.build(model, len(classes))
    if settings.extractor_start == "teacher":
        baseline.adopt(M, start.state_dict())
    for doubling, learned in zip(interpolators_of(M), G, strict=False):  # a head without p2 has a step less
        doubling.load_state_dict(learned.state_dict())
    train_extractor(F, M, D, settings, stream, run)
    baseline.save(M, model, classes, run.folder, "extractor.safetensors")
    return M


def with_head(model: Model, detector: str) -> Model:
    """``model`` as another kind of ``detector``, with that kind's own options but the same test size; as it is if none is named."""
    if detector in ("", model.detector):
        return model
    kept = {name: value for name, value in model.detector_options.items() if name == "test_size"}
    return replace(model, detector=detector, detector_options=kept)


def train_extractor(F: Extractor, M: Detector, D: nn.Module, settings: Settings, stream: Batches, run: Run) -> None:
    """M's pyramid against F's, with M's detection losses on what M has seen (Eq. 3)."""
    extracting, critic = _learners(M, D, settings.extractor, settings.adversary)
    look, compared = looking(_kept(F, settings)), SEMANTICS[settings.semantics]

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        seen = compared(look, M, (images, targets), settings.halving)
        student, target = match(chosen(seen.student, settings.adversary.levels), seen.target)
        critic_said, losses = play(D, critic, student, target, settings.adversary)
        return critic_said | extracting.descend(losses | losses_on(M, seen.batch, seen.features, seen.boxes))

    fit(step, stream, settings.extractor.steps, run, {"extractor": extracting, **critic}, "extractor")
    extracting.keep_average()


# ------------------------------------------------------------------------------------------------ stage 3: Sec. 4.3, Eqs. (4) to (7)


def target(settings: Settings, stream: Batches, classes: Sequence[str], run: Run) -> Detector:
    """T: the detector that is wanted, on what ``settings.reuse`` takes over, trained by its own losses on full-size pictures."""
    taken = reused(settings, stream, classes, run)
    if settings.target_start == "teacher":
        taken = teacher(settings, stream, classes, run).state_dict() | taken
    T = baseline.build(settings.model, len(classes))
    fresh = baseline.adopt(T, taken)
    if run.rank == 0:
        taken_over = len(T.state_dict()) - len(fresh)
        print(
            f"The target takes over {taken_over} tensors (reuse {settings.reuse}, start {settings.target_start}); {len(fresh)} start anew."
        )
    if settings.freeze_interpolator:
        freeze(interpolators_of(T))
    baseline.descend(T, stream, settings.target, run, "target")
    baseline.save(T, settings.model, classes, run.folder)
    return T


def reused(settings: Settings, stream: Batches, classes: Sequence[str], run: Run) -> dict[str, Tensor]:
    """What T starts with, by the names T has for it; the stages that make it are run (or loaded) now."""
    if settings.reuse == "none":
        return {}
    if settings.reuse == "G":
        G, _ = interpolator(settings, stream, classes, run)
        return {f"{IN_DETECTOR}{name}": value for name, value in G.state_dict().items()}
    tensors = extractor(settings, stream, classes, run).state_dict()
    return {name: value for name, value in tensors.items() if settings.reuse == "M" or name.startswith(IN_DETECTOR)}


def _learners(
    player: nn.Module, D: nn.Module, stage: Stage, adversary: Adversary
) -> tuple[Learner, dict[str, Learner]]:
    """The player's learner, and the critic's by its name: nobody's if λ = 0."""
    critic = {"critic": Learner(D, stage.descent, stage.steps)} if adversary.weight else {}
    return Learner(player, stage.descent, stage.steps), critic
