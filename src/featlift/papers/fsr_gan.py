"""FSR-GAN (Tan, Yan and Bare, CVPR 2018): the descriptor of a tiny query, lifted to what the large picture would have
given.

F is the frozen describer (Sec. 3.1), G the generator, D the critic (Sec. 3.3). Only queries are lifted: the gallery is
described once, sharp, and never touched, so an index that exists keeps working. F is frozen, so all pictures are
described first, at every ratio, and kept on disk; training then sees descriptors only and takes minutes.

The defaults are what works; :meth:`Settings.paper` is the text. `docs/papers/fsr_gan.md` lists where they differ, and
why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.checkpoints import save
from featlift.data.landmarks import Query, inner_window, read_picture
from featlift.data.pairs import PairBatches, Pairs
from featlift.evaluation.retrieval import as_good_as_the_best, bits, distance_curve, precisions, ratio_curve
from featlift.gallery import Collection, Encoding, learning, opened, remembering, seen
from featlift.losses import (
    clip_weights,
    focal_distance,
    gan_critic,
    gan_generator,
    gradient_penalty,
    relative_distance,
    wasserstein_critic,
    wasserstein_generator,
)
from featlift.retrieval.cache import DescriptorCache
from featlift.retrieval.descriptors import reduced
from featlift.retrieval.discriminator import DenseCritic, DescriptorCritic
from featlift.retrieval.generator import ConditionedGenerator, DescriptorGenerator, ResidualGenerator, lifted
from featlift.training import Descent, Learner, Run, fit

GAMES = {
    "gan": (gan_critic, gan_generator),  # Eqs. (5), (4)
    "wgan-clip": (wasserstein_critic, wasserstein_generator),  # Eqs. (7), (6)
    "wgan-gp": (wasserstein_critic, wasserstein_generator),
}


@dataclass(frozen=True)
class Game:
    """The critic's side.

    Attributes:
        kind: "off", "gan", "wgan-clip" or "wgan-gp".
        weight: of the adversarial term (1 in Eqs. 8 and 9).
        turns: of the critic for each of the generator (not stated; 5 in the WGAN that is cited).
        clip: largest weight of a clipped critic.
        penalty: weight of the gradient penalty.
    """

    kind: str = "off"
    weight: float = 1.0
    turns: int = 5
    clip: float = 0.01
    penalty: float = 10.0

    def __post_init__(self) -> None:
        if self.kind != "off" and self.kind not in GAMES:
            raise ValueError(f"Unknown game '{self.kind}'; choose 'off' or one of {', '.join(GAMES)}.")


@dataclass(frozen=True)
class Caution:
    """How boldly G corrects. Where little is known a bold G makes all queries look alike, and precision falls although distances do.

    Attributes:
        rank: corrections are mixtures of so many directions; 0 allows any.
        relative: errors count relative to what was lost, so that queries that lost little are left alone.
    """

    rank: int = 0
    relative: bool = False


CAUTIONS = (Caution(1, relative=True), Caution(1), Caution(relative=True), Caution())
"""What :func:`suited` chooses from, the most cautious first."""


@dataclass(frozen=True)
class Settings:
    """One generator for one describer.

    Attributes:
        collection: pictures.
        encoding: F.
        game: D, or none.
        generator: "residual" (blind), "conditioned" (told the ratio) or "paper" (Table 2).
        hidden: width of the first two.
        caution: of the first two; None tries all and keeps what suits the pictures (not in the paper).
        ratios: times smaller per side; the paper's 1/4 … 1/64 are areas. 1 keeps sharp queries sharp.
        exponent: r of Eq. (9).
        descent: of G and of D.
        steps: of G.
        batch: pairs in a step.
    """

    collection: Collection = field(default_factory=Collection)
    encoding: Encoding = field(default_factory=Encoding)
    game: Game = field(default_factory=Game)
    generator: str = "residual"
    hidden: int = 1024
    caution: Caution | None = None
    ratios: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    exponent: float = 2.0  # Sec. 3.3
    descent: Descent = field(default_factory=lambda: Descent("adam", 8e-4, weight_decay=1e-4, schedule="cosine"))
    steps: int = 3000
    batch: int = 64

    @classmethod
    def paper(cls) -> "Settings":
        """The text: Table 2 and Table 3, clipped Wasserstein critic, r = 2, Adam 8e-4, no ratio 1; 6 epochs of 4,500
        pictures at 7 ratios.
        """
        return cls(
            collection=Collection("oxford5k", "data/oxford5k/images", "data/oxford5k/truth", learn_from="database"),
            game=Game("wgan-clip"),
            generator="paper",
            caution=Caution(),
            ratios=(2, 3, 4, 5, 6, 7, 8),
            descent=Descent("adam", 8e-4, weight_decay=0.0),
            steps=6 * 4500 * 7 // 64,
        )

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: built-in places, a descriptor without weights; two minutes."""
        return cls(encoding=Encoding("gist", size=128), hidden=512, steps=400)


def train(settings: Settings, run: Run) -> nn.Module:
    """G, trained on the descriptors of ``settings.collection``; written to the run as ``generator.safetensors``."""
    F, files = remembering(settings.encoding), learning(settings.collection)
    pairs = described(F, files, settings.ratios)
    settings = suited(settings, F, files, pairs, run)
    G = generator(settings, pairs.high.shape[1])
    descend(G, pairs, settings, run)
    save(G, run.folder / "generator.safetensors")
    return G


def described(F: DescriptorCache, files: Sequence[Path], ratios: Sequence[float]) -> Pairs:
    """F of every file at every ratio, and at full size."""
    return Pairs(ratios, torch.stack([seen(F, files, ratio) for ratio in ratios]), seen(F, files, 1))


# ------------------------------------------------------------------------------------------------- Sec. 3.2, Eqs. (3) to (9): G and D


def generator(settings: Settings, dimension: int) -> nn.Module:
    """G for descriptors of ``dimension`` numbers.

    Raises:
        ValueError: if there is no generator of this name.
    """
    if settings.generator == "paper":
        return DescriptorGenerator(dimension)
    kinds = {"residual": ResidualGenerator, "conditioned": ConditionedGenerator}
    if settings.generator not in kinds:
        raise ValueError(f"Unknown generator '{settings.generator}'; choose 'paper' or one of {', '.join(kinds)}.")
    return kinds[settings.generator](dimension, settings.hidden, rank=(settings.caution or Caution()).rank)


def descend(G: nn.Module, pairs: Pairs, settings: Settings, run: Run, stage: str = "generator") -> nn.Module:
    """Trains G on ``pairs``, against a critic if the game has one; returns G, ready to be asked."""
    stream = PairBatches(pairs, settings.batch, run.seed)
    if settings.game.kind == "off":
        alone(G, stream, settings, run, stage)
    else:
        dimension = pairs.high.shape[1]
        D = DescriptorCritic(dimension) if settings.generator == "paper" else DenseCritic(dimension)
        against(D, G, stream, settings, run, stage)
    return G.eval()


def content(fake: Tensor, low: Tensor, high: Tensor, settings: Settings) -> Tensor:
    """The second term of Eq. (9), or with caution its relative form; descriptors ``[B, D]``."""
    if settings.caution and settings.caution.relative:
        return relative_distance(fake, low, high, settings.exponent)
    return focal_distance(fake, high, settings.exponent)


def alone(G: nn.Module, stream: PairBatches, settings: Settings, run: Run, stage: str) -> None:
    """The second term of Eq. (9) by itself; with r = 2 the paper's "CNN-Baseline"."""
    learner = Learner(G, settings.descent, settings.steps)

    def step(low: Any, high: Any) -> Mapping[str, Tensor]:
        return learner.descend({"content": content(G(*low), low[0], high, settings)})

    fit(step, stream, settings.steps, run, {"generator": learner}, stage)


def against(D: nn.Module, G: nn.Module, stream: PairBatches, settings: Settings, run: Run, stage: str) -> None:
    """Eq. (7) for D on every batch, Eq. (9) for G on every ``turns``-th, judged by the D of after its turn."""
    game, steps = settings.game, settings.steps * settings.game.turns
    tell_apart, fool = GAMES[game.kind]
    of_G, of_D = Learner(G, settings.descent, settings.steps), Learner(D, settings.descent, steps)

    def step(low: Any, high: Any) -> Mapping[str, Tensor]:
        fake = G(*low)
        losses = {"critic": tell_apart(D(high), D(fake.detach()))}
        if game.kind == "wgan-gp":
            losses["penalty"] = game.penalty * gradient_penalty(D, high, fake.detach())
        said = of_D.descend(losses)
        if game.kind == "wgan-clip":
            clip_weights(D, game.clip)
        if of_D.calls % game.turns:
            return said
        near = content(fake, low[0], high, settings)
        return said | of_G.descend({"content": near, "adversarial": game.weight * fool(D(fake))})

    fit(step, stream, steps, run, {"generator": of_G, "critic": of_D}, stage)


# ------------------------------------------------------------------------------------------------- ours: how bold G should be


def suited(settings: Settings, F: DescriptorCache, files: Sequence[Path], pairs: Pairs, run: Run) -> Settings:
    """``settings`` with the caution that suits the pictures, by what each G, taught by three quarters, finds of the last quarter.

    The last quarter, sharp, is asked for by small crops of it: no label is needed, and nothing of what is searched later. Files of one
    place often follow each other, so it is the last quarter and not every fourth picture. The most cautious that is behind the best by
    no more than a standard error is taken. Trials have no critic.
    """
    if settings.caution is not None:
        return settings
    known, held = pairs.parted(3 / 4)
    asked_for = list(files[-len(held.high) :])
    crops = [inner_window(file, number) for number, file in enumerate(asked_for)]
    low = {ratio: seen(F, asked_for, ratio, crops) for ratio in settings.ratios}
    wanted = [Query(file, frozenset({row})) for row, file in enumerate(asked_for)]

    def found(caution: Caution) -> Tensor:
        tried = replace(settings, caution=caution, game=Game("off"))
        G, name = generator(tried, pairs.high.shape[1]), "relative" if caution.relative else "plain"
        descend(G, known, tried, run, f"trial-{caution.rank}-{name}")
        each = [precisions(x, held.high, wanted) for x in raised(G, low).values()]
        return torch.tensor(each).mean(dim=0)

    trials = {caution: found(caution) for caution in CAUTIONS}
    run.rewind("suited", 0)
    for step, (caution, values) in enumerate(trials.items(), 1):
        run.log({"stage": "suited", "step": step, **asdict(caution), "mAP": values.mean().item()})
    return replace(settings, caution=min(as_good_as_the_best(trials), key=CAUTIONS.index))


# ------------------------------------------------------------------------------------------------- Secs. 4.2, 5.2 and 5.4


def measure(lifts: Mapping[str, nn.Module], settings: Settings, ratios: Sequence[float] = ()) -> dict[str, dict]:
    """:func:`curves` of every lift at every ratio, and :func:`sizes` of the queries."""
    ratios = ratios or settings.ratios
    low = asked(settings, ratios)
    return curves({name: raised(lift, low) for name, lift in lifts.items()}, settings) | sizes(settings, ratios)


def asked(settings: Settings, ratios: Sequence[float]) -> dict[float, Tensor]:
    """Ratio → F of the queries, so many times smaller, ``[Q, D]``."""
    queries, F = opened(settings.collection).queries, remembering(settings.encoding)
    files, boxes = [query.picture for query in queries], [query.box for query in queries]
    return {ratio: seen(F, files, ratio, boxes) for ratio in ratios}


def raised(lift: nn.Module, low: Mapping[float, Tensor]) -> dict[float, Tensor]:
    """Queries by ratio, ``[Q, D]`` each, through ``lift``, which is told the ratio."""
    return {ratio: lifted(lift, x, torch.full((len(x),), float(ratio))) for ratio, x in low.items()}


def curves(queries: Mapping[str, Mapping[float, Tensor]], settings: Settings) -> dict[str, dict]:
    """What is found by queries that were made in several ways: ``{"map": {name: {ratio: 0…1}}, "distance": {name: {ratio: (mean,
    variance)}}}``. The database is sharp and untouched; distances are to the sharp queries.
    """
    landmarks, F = opened(settings.collection), remembering(settings.encoding)
    database, sharp = seen(F, landmarks.database, 1), asked(settings, [1])[1]
    found = {name: ratio_curve(each, database, landmarks.queries) for name, each in queries.items()}
    return {"map": found, "distance": {name: distance_curve(each, sharp) for name, each in queries.items()}}


def sizes(settings: Settings, ratios: Sequence[float]) -> dict[str, dict[float, float]]:
    """Means over the queries: ``"short_side"`` in pixels, and ``"bits"`` of the small picture as PNG (Sec. 5.4)."""
    images = [read_picture(query.picture, query.box) for query in opened(settings.collection).queries]
    small = {ratio: [reduced(image, ratio) for image in images] for ratio in ratios}
    return {
        "short_side": {r: sum(min(image.shape[1:]) for image in each) / len(each) for r, each in small.items()},
        "bits": {r: sum(map(bits, each)) / len(each) for r, each in small.items()},
    }
