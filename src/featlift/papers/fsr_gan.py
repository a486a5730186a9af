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
from featlift.data.landmarks import RetrievalQuery, random_crop_box, read_image_crop
from featlift.data.pairs import DescriptorPairLoader, DescriptorPairs
from featlift.evaluation.retrieval import (
    distance_by_ratio,
    map_by_ratio,
    png_bits,
    query_average_precisions,
    select_within_one_standard_error,
)
from featlift.gallery import (
    CollectionConfig,
    EmbedderConfig,
    build_descriptor_cache,
    describe_files,
    list_train_images,
    open_collection,
)
from featlift.losses import (
    clip_weights,
    focal_distance,
    gan_discriminator_loss,
    gan_generator_loss,
    gradient_penalty,
    relative_distance,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from featlift.retrieval.cache import DescriptorCache
from featlift.retrieval.descriptors import downscale_image
from featlift.retrieval.discriminator import DescriptorDiscriminator, MLPDiscriminator
from featlift.retrieval.generator import (
    ConditionedGenerator,
    DescriptorGenerator,
    ResidualGenerator,
    super_resolve_descriptors,
)
from featlift.training import Learner, OptimizerConfig, Run, fit

GAN_LOSSES = {
    "gan": (gan_discriminator_loss, gan_generator_loss),  # Eqs. (5), (4)
    "wgan-clip": (wasserstein_critic_loss, wasserstein_generator_loss),  # Eqs. (7), (6)
    "wgan-gp": (wasserstein_critic_loss, wasserstein_generator_loss),
}


@dataclass(frozen=True)
class GANConfig:
    """The critic's side.

    Attributes:
        kind: "off", "gan", "wgan-clip" or "wgan-gp".
        weight: of the adversarial term (1 in Eqs. 8 and 9).
        n_critic: of the critic for each of the generator (not stated; 5 in the WGAN that is cited).
        weight_clip: largest weight of a clipped critic.
        penalty_weight: weight of the gradient penalty.
    """

    kind: str = "off"
    weight: float = 1.0
    n_critic: int = 5
    weight_clip: float = 0.01
    penalty_weight: float = 10.0

    def __post_init__(self) -> None:
        if self.kind != "off" and self.kind not in GAN_LOSSES:
            raise ValueError(f"Unknown game '{self.kind}'; choose 'off' or one of {', '.join(GAN_LOSSES)}.")


@dataclass(frozen=True)
class RegularizationConfig:
    """How boldly G corrects. Where little is known a bold G makes all queries look alike, and precision falls although distances do.

    Attributes:
        rank: corrections are mixtures of so many directions; 0 allows any.
        relative_loss: errors count relative to what was lost, so that queries that lost little are left alone.
    """

    rank: int = 0
    relative_loss: bool = False


REGULARISATION_CANDIDATES = (
    RegularizationConfig(1, relative_loss=True),
    RegularizationConfig(1),
    RegularizationConfig(relative_loss=True),
    RegularizationConfig(),
)
"""What :func:`select_regularization` chooses from, the most cautious first."""


@dataclass(frozen=True)
class Settings:
    """One generator for one describer.

    Attributes:
        collection: pictures.
        encoding: F.
        adversarial: D, or none.
        generator: "residual" (blind), "conditioned" (told the ratio) or "paper" (Table 2).
        hidden_dim: width of the first two.
        regularization: of the first two; None tries all and keeps what suits the pictures (not in the paper).
        ratios: times smaller per side; the paper's 1/4 … 1/64 are areas. 1 keeps sharp queries sharp.
        focal_exponent: r of Eq. (9).
        optimizer: of G and of D.
        steps: of G.
        batch_size: pairs in a step.
    """

    collection: CollectionConfig = field(default_factory=CollectionConfig)
    encoding: EmbedderConfig = field(default_factory=EmbedderConfig)
    adversarial: GANConfig = field(default_factory=GANConfig)
    generator: str = "residual"
    hidden_dim: int = 1024
    regularization: RegularizationConfig | None = None
    ratios: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    focal_exponent: float = 2.0  # Sec. 3.3
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("adam", 8e-4, weight_decay=1e-4, schedule="cosine")
    )
    steps: int = 3000
    batch_size: int = 64

    @classmethod
    def paper(cls) -> "Settings":
        """The text: Table 2 and Table 3, clipped Wasserstein critic, r = 2, Adam 8e-4, no ratio 1; 6 epochs of 4,500
        pictures at 7 ratios.
        """
        return cls(
            collection=CollectionConfig(
                "oxford5k", "data/oxford5k/images", "data/oxford5k/truth", train_images="database"
            ),
            adversarial=GANConfig("wgan-clip"),
            generator="paper",
            regularization=RegularizationConfig(),
            ratios=(2, 3, 4, 5, 6, 7, 8),
            optimizer=OptimizerConfig("adam", 8e-4, weight_decay=0.0),
            steps=6 * 4500 * 7 // 64,
        )

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: built-in places, a descriptor without weights; two minutes."""
        return cls(encoding=EmbedderConfig("gist", input_size=128), hidden_dim=512, steps=400)


def train(settings: Settings, run: Run) -> nn.Module:
    """G, trained on the descriptors of ``settings.collection``; written to the run as ``generator.safetensors``."""
    F, files = build_descriptor_cache(settings.encoding), list_train_images(settings.collection)
    pairs = build_descriptor_pairs(F, files, settings.ratios)
    settings = select_regularization(settings, F, files, pairs, run)
    G = build_generator(settings, pairs.high.shape[1])
    train_generator(G, pairs, settings, run)
    save(G, run.folder / "generator.safetensors")
    return G


def build_descriptor_pairs(F: DescriptorCache, files: Sequence[Path], ratios: Sequence[float]) -> DescriptorPairs:
    """F of every file at every ratio, and at full size."""
    return DescriptorPairs(
        ratios, torch.stack([describe_files(F, files, ratio) for ratio in ratios]), describe_files(F, files, 1)
    )


# ------------------------------------------------------------------------------------------------- Sec. 3.2, Eqs. (3) to (9): G and D


def build_generator(settings: Settings, descriptor_dim: int) -> nn.Module:
    """G for descriptors of ``descriptor_dim`` numbers.

    Raises:
        ValueError: if there is no generator of this name.
    """
    if settings.generator == "paper":
        return DescriptorGenerator(descriptor_dim)
    kinds = {"residual": ResidualGenerator, "conditioned": ConditionedGenerator}
    if settings.generator not in kinds:
        raise ValueError(f"Unknown generator '{settings.generator}'; choose 'paper' or one of {', '.join(kinds)}.")
    return kinds[settings.generator](
        descriptor_dim, settings.hidden_dim, rank=(settings.regularization or RegularizationConfig()).rank
    )


def train_generator(
    G: nn.Module, pairs: DescriptorPairs, settings: Settings, run: Run, stage_name: str = "generator"
) -> nn.Module:
    """Trains G on ``pairs``, against a critic if the game has one; returns G, ready to be asked."""
    stream = DescriptorPairLoader(pairs, settings.batch_size, run.seed)
    if settings.adversarial.kind == "off":
        train_without_critic(G, stream, settings, run, stage_name)
    else:
        dimension = pairs.high.shape[1]
        D = DescriptorDiscriminator(dimension) if settings.generator == "paper" else MLPDiscriminator(dimension)
        train_with_critic(D, G, stream, settings, run, stage_name)
    return G.eval()


def descriptor_content_loss(fake: Tensor, low: Tensor, high: Tensor, settings: Settings) -> Tensor:
    """The second term of Eq. (9), or with caution its relative form; descriptors ``[B, D]``."""
    if settings.regularization and settings.regularization.relative_loss:
        return relative_distance(fake, low, high, settings.focal_exponent)
    return focal_distance(fake, high, settings.focal_exponent)


def train_without_critic(
    G: nn.Module, loader: DescriptorPairLoader, settings: Settings, run: Run, stage_name: str
) -> None:
    """The second term of Eq. (9) by itself; with r = 2 the paper's "CNN-Baseline"."""
    learner = Learner(G, settings.optimizer, settings.steps)

    def step(low: Any, high: Any) -> Mapping[str, Tensor]:
        return learner.step({"content": descriptor_content_loss(G(*low), low[0], high, settings)})

    fit(step, loader, settings.steps, run, {"generator": learner}, stage_name)


def train_with_critic(
    D: nn.Module, G: nn.Module, loader: DescriptorPairLoader, settings: Settings, run: Run, stage_name: str
) -> None:
    """Eq. (7) for D on every batch, Eq. (9) for G on every ``turns``-th, judged by the D of after its turn."""
    game, steps = settings.adversarial, settings.steps * settings.adversarial.n_critic
    tell_apart, fool = GAN_LOSSES[game.kind]
    of_G, of_D = Learner(G, settings.optimizer, settings.steps), Learner(D, settings.optimizer, steps)

    def step(low: Any, high: Any) -> Mapping[str, Tensor]:
        fake = G(*low)
        losses = {"critic": tell_apart(D(high), D(fake.detach()))}
        if game.kind == "wgan-gp":
            losses["penalty"] = game.penalty_weight * gradient_penalty(D, high, fake.detach())
        said = of_D.step(losses)
        if game.kind == "wgan-clip":
            clip_weights(D, game.weight_clip)
        if of_D.num_calls % game.n_critic:
            return said
        near = descriptor_content_loss(fake, low[0], high, settings)
        return said | of_G.step({"content": near, "adversarial": game.weight * fool(D(fake))})

    fit(step, loader, steps, run, {"generator": of_G, "critic": of_D}, stage_name)


# ------------------------------------------------------------------------------------------------- ours: how bold G should be


def select_regularization(
    settings: Settings, F: DescriptorCache, files: Sequence[Path], pairs: DescriptorPairs, run: Run
) -> Settings:
    """``settings`` with the caution that suits the pictures, by what each G, taught by three quarters, finds of the last quarter.

    The last quarter, sharp, is asked for by small crops of it: no label is needed, and nothing of what is searched later. Files of one
    place often follow each other, so it is the last quarter and not every fourth picture. The most cautious that is behind the best by
    no more than a standard error is taken. Trials have no critic.
    """
    if settings.regularization is not None:
        return settings
    known, held = pairs.split(3 / 4)
    asked_for = list(files[-len(held.high) :])
    crops = [random_crop_box(file, number) for number, file in enumerate(asked_for)]
    low = {ratio: describe_files(F, asked_for, ratio, crops) for ratio in settings.ratios}
    wanted = [RetrievalQuery(file, frozenset({row})) for row, file in enumerate(asked_for)]

    def found(caution: RegularizationConfig) -> Tensor:
        tried = replace(settings, regularization=caution, adversarial=GANConfig("off"))
        G, name = build_generator(tried, pairs.high.shape[1]), "relative" if caution.relative_loss else "plain"
        train_generator(G, known, tried, run, f"trial-{caution.rank}-{name}")
        each = [query_average_precisions(x, held.high, wanted) for x in apply_generator(G, low).values()]
        return torch.tensor(each).mean(dim=0)

    trials = {caution: found(caution) for caution in REGULARISATION_CANDIDATES}
    run.truncate_log("suited", 0)
    for step, (caution, values) in enumerate(trials.items(), 1):
        run.log({"stage": "suited", "step": step, **asdict(caution), "mAP": values.mean().item()})
    return replace(
        settings, regularization=min(select_within_one_standard_error(trials), key=REGULARISATION_CANDIDATES.index)
    )


# ------------------------------------------------------------------------------------------------- Secs. 4.2, 5.2 and 5.4


def evaluate_generators(
    generators: Mapping[str, nn.Module], settings: Settings, ratios: Sequence[float] = ()
) -> dict[str, dict]:
    """:func:`retrieval_curves` of every lift at every ratio, and :func:`query_sizes` of the queries."""
    ratios = ratios or settings.ratios
    low = query_descriptors(settings, ratios)
    return retrieval_curves(
        {name: apply_generator(lift, low) for name, lift in generators.items()}, settings
    ) | query_sizes(settings, ratios)


def query_descriptors(settings: Settings, ratios: Sequence[float]) -> dict[float, Tensor]:
    """Ratio → F of the queries, so many times smaller, ``[Q, D]``."""
    queries, F = open_collection(settings.collection).queries, build_descriptor_cache(settings.encoding)
    files, boxes = [query.image_path for query in queries], [query.box for query in queries]
    return {ratio: describe_files(F, files, ratio, boxes) for ratio in ratios}


def apply_generator(generator: nn.Module, low: Mapping[float, Tensor]) -> dict[float, Tensor]:
    """Queries by ratio, ``[Q, D]`` each, through ``generator``, which is told the ratio."""
    return {
        ratio: super_resolve_descriptors(generator, x, torch.full((len(x),), float(ratio))) for ratio, x in low.items()
    }


def retrieval_curves(queries: Mapping[str, Mapping[float, Tensor]], settings: Settings) -> dict[str, dict]:
    """What is found by queries that were made in several ways: ``{"map": {name: {ratio: 0…1}}, "distance": {name: {ratio: (mean,
    variance)}}}``. The database is sharp and untouched; distances are to the sharp queries.
    """
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.encoding)
    database, sharp = describe_files(F, landmarks.database, 1), query_descriptors(settings, [1])[1]
    found = {name: map_by_ratio(each, database, landmarks.queries) for name, each in queries.items()}
    return {"map": found, "distance": {name: distance_by_ratio(each, sharp) for name, each in queries.items()}}


def query_sizes(settings: Settings, ratios: Sequence[float]) -> dict[str, dict[float, float]]:
    """Means over the queries: ``"short_side"`` in pixels, and ``"bits"`` of the small picture as PNG (Sec. 5.4)."""
    images = [read_image_crop(query.image_path, query.box) for query in open_collection(settings.collection).queries]
    small = {ratio: [downscale_image(image, ratio) for image in images] for ratio in ratios}
    return {
        "short_side": {r: sum(min(image.shape[1:]) for image in each) / len(each) for r, each in small.items()},
        "bits": {r: sum(map(png_bits, each)) / len(each) for r, each in small.items()},
    }
