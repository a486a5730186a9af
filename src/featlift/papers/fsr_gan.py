"""FSR-GAN (Tan, Yan and Bare, CVPR 2018): super-resolution of the descriptors of low-resolution queries.

F is the frozen embedder (Sec. 3.1), G the generator, D the discriminator (a critic for the Wasserstein losses, Sec. 3.3). G is applied to
queries only: the gallery is embedded at full resolution, so existing indexes keep working. F is frozen, so the descriptors of all images at
all ratios are computed first and cached on disk; training uses descriptors only and takes minutes.

The defaults are the recommended settings; :meth:`Settings.paper` follows the text. `docs/papers/fsr_gan.md` explains the differences.
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
    """Adversarial loss.

    Attributes:
        kind: Loss: "off", "gan", "wgan-clip" or "wgan-gp".
        weight: Weight of the adversarial term (1 in Eqs. (8) and (9)).
        n_critic: Updates of the critic per update of the generator (not stated; 5 in the cited WGAN paper).
        weight_clip: Maximum absolute weight of the critic with "wgan-clip".
        penalty_weight: Weight of the gradient penalty with "wgan-gp".
    """

    kind: str = "off"
    weight: float = 1.0
    n_critic: int = 5
    weight_clip: float = 0.01
    penalty_weight: float = 10.0

    def __post_init__(self) -> None:
        if self.kind != "off" and self.kind not in GAN_LOSSES:
            raise ValueError(f"Unknown adversarial kind '{self.kind}'; choose 'off' or one of {', '.join(GAN_LOSSES)}.")


@dataclass(frozen=True)
class RegularizationConfig:
    """Regularization of G. With few images an unregularized G makes all queries similar: distances decrease, but so does precision.

    Attributes:
        rank: Rank of the space of G's corrections; 0 for full rank.
        relative_loss: Weight errors relative to the lost information, so that queries that lost little are hardly changed.
    """

    rank: int = 0
    relative_loss: bool = False


REGULARIZATION_CANDIDATES = (
    RegularizationConfig(1, relative_loss=True),
    RegularizationConfig(1),
    RegularizationConfig(relative_loss=True),
    RegularizationConfig(),
)
"""Candidates of :func:`select_regularization`, strongest regularization first."""


@dataclass(frozen=True)
class Settings:
    """Training of one generator for one embedder.

    Attributes:
        collection: Images.
        embedder: Embedder F.
        adversarial: Adversarial loss.
        generator: Generator G: "residual" (blind), "conditioned" (on the ratio) or "paper" (Table 2).
        hidden_dim: Hidden dimension of "residual" and "conditioned".
        regularization: Regularization of "residual" and "conditioned"; None selects it by validation (not in the paper).
        ratios: Downscaling factors per side; the paper's 1/4 … 1/64 are ratios of areas. 1 preserves full-resolution queries.
        focal_exponent: Exponent r of Eq. (9).
        optimizer: Optimizer of G and D.
        steps: Number of updates of G.
        batch_size: Descriptor pairs per step.
    """

    collection: CollectionConfig = field(default_factory=CollectionConfig)
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)
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
        """As in the text: Tables 2 and 3, clipped Wasserstein critic, r = 2, Adam with lr 8e-4, no ratio 1; 6 epochs of
        4,500 images at 7 ratios.
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
        """Laptop preset: synthetic landmarks and GIST descriptors (no weights); two minutes."""
        return cls(embedder=EmbedderConfig("gist", input_size=128), hidden_dim=512, steps=400)


def train(settings: Settings, run: Run) -> nn.Module:
    """Train G on the descriptors of ``settings.collection`` and save it in the run as ``generator.safetensors``."""
    F, files = build_descriptor_cache(settings.embedder), list_train_images(settings.collection)
    pairs = build_descriptor_pairs(F, files, settings.ratios)
    settings = select_regularization(settings, F, files, pairs, run)
    G = build_generator(settings, pairs.high.shape[1])
    train_generator(G, pairs, settings, run)
    save(G, run.folder / "generator.safetensors")
    return G


def build_descriptor_pairs(F: DescriptorCache, files: Sequence[Path], ratios: Sequence[float]) -> DescriptorPairs:
    """Compute the descriptors F of every file at every ratio, and at full size."""
    return DescriptorPairs(
        ratios, torch.stack([describe_files(F, files, ratio) for ratio in ratios]), describe_files(F, files, 1)
    )


# ------------------------------------------------------------------------------------------------- Sec. 3.2, Eqs. (3) to (9): G and D


def build_generator(settings: Settings, descriptor_dim: int) -> nn.Module:
    """Build G for descriptors of dimension ``descriptor_dim``.

    Raises:
        ValueError: if the generator's name is unknown.
    """
    if settings.generator == "paper":
        return DescriptorGenerator(descriptor_dim)
    generators = {"residual": ResidualGenerator, "conditioned": ConditionedGenerator}
    if settings.generator not in generators:
        raise ValueError(f"Unknown generator '{settings.generator}'; choose 'paper' or one of {', '.join(generators)}.")
    return generators[settings.generator](
        descriptor_dim, settings.hidden_dim, rank=(settings.regularization or RegularizationConfig()).rank
    )


def train_generator(
    G: nn.Module, pairs: DescriptorPairs, settings: Settings, run: Run, stage_name: str = "generator"
) -> nn.Module:
    """Train G on ``pairs``, adversarially if ``settings.adversarial`` says so; return G in evaluation mode."""
    loader = DescriptorPairLoader(pairs, settings.batch_size, run.seed)
    if settings.adversarial.kind == "off":
        train_without_critic(G, loader, settings, run, stage_name)
    else:
        dimension = pairs.high.shape[1]
        D = DescriptorDiscriminator(dimension) if settings.generator == "paper" else MLPDiscriminator(dimension)
        train_with_critic(D, G, loader, settings, run, stage_name)
    return G.eval()


def descriptor_content_loss(fake: Tensor, low: Tensor, high: Tensor, settings: Settings) -> Tensor:
    """Return the second term of Eq. (9), or its relative form with ``relative_loss``; descriptors ``[B, D]``."""
    if settings.regularization and settings.regularization.relative_loss:
        return relative_distance(fake, low, high, settings.focal_exponent)
    return focal_distance(fake, high, settings.focal_exponent)


def train_without_critic(
    G: nn.Module, loader: DescriptorPairLoader, settings: Settings, run: Run, stage_name: str
) -> None:
    """Train G with the second term of Eq. (9) alone; with r = 2 this is the paper's "CNN-Baseline"."""
    learner = Learner(G, settings.optimizer, settings.steps)

    def step(low: Any, high: Any) -> Mapping[str, Tensor]:
        return learner.step({"content": descriptor_content_loss(G(*low), low[0], high, settings)})

    fit(step, loader, settings.steps, run, {"generator": learner}, stage_name)


def train_with_critic(
    D: nn.Module, G: nn.Module, loader: DescriptorPairLoader, settings: Settings, run: Run, stage_name: str
) -> None:
    """Update D by Eq. (7) on every batch, and G by Eq. (9) on every ``n_critic``-th batch with the updated D."""
    config, steps = settings.adversarial, settings.steps * settings.adversarial.n_critic
    critic_loss, generator_loss = GAN_LOSSES[config.kind]
    generator, critic = Learner(G, settings.optimizer, settings.steps), Learner(D, settings.optimizer, steps)

    def step(low: Any, high: Any) -> Mapping[str, Tensor]:
        fake = G(*low)
        losses = {"critic": critic_loss(D(high), D(fake.detach()))}
        if config.kind == "wgan-gp":
            losses["penalty"] = config.penalty_weight * gradient_penalty(D, high, fake.detach())
        log = critic.step(losses)
        if config.kind == "wgan-clip":
            clip_weights(D, config.weight_clip)
        if critic.num_calls % config.n_critic:
            return log
        content = descriptor_content_loss(fake, low[0], high, settings)
        return log | generator.step({"content": content, "adversarial": config.weight * generator_loss(D(fake))})

    fit(step, loader, steps, run, {"generator": generator, "critic": critic}, stage_name)


# ------------------------------------------------------------------------------------------------- regularization of G (not in the paper)


def select_regularization(
    settings: Settings, F: DescriptorCache, files: Sequence[Path], pairs: DescriptorPairs, run: Run
) -> Settings:
    """Return ``settings`` with the regularization selected by validation: each candidate is trained on the first three quarters of the
    images and evaluated by retrieval on the last quarter.

    Queries are random crops of the validation images at every ratio, the gallery is these images at full size, so neither labels nor the
    later gallery are used. The last quarter is used, not every fourth image, because files of one landmark are often adjacent. The
    strongest regularization within one standard error of the best is selected. Trials train without a critic.
    """
    if settings.regularization is not None:
        return settings
    train_pairs, val_pairs = pairs.split(3 / 4)
    val_files = list(files[-len(val_pairs.high) :])
    crops = [random_crop_box(file, number) for number, file in enumerate(val_files)]
    low = {ratio: describe_files(F, val_files, ratio, crops) for ratio in settings.ratios}
    queries = [RetrievalQuery(file, frozenset({row})) for row, file in enumerate(val_files)]

    def evaluate(candidate: RegularizationConfig) -> Tensor:
        trial = replace(settings, regularization=candidate, adversarial=GANConfig("off"))
        G, name = build_generator(trial, pairs.high.shape[1]), "relative" if candidate.relative_loss else "plain"
        train_generator(G, train_pairs, trial, run, f"trial-{candidate.rank}-{name}")
        precisions = [query_average_precisions(x, val_pairs.high, queries) for x in apply_generator(G, low).values()]
        return torch.tensor(precisions).mean(dim=0)

    trials = {candidate: evaluate(candidate) for candidate in REGULARIZATION_CANDIDATES}
    run.truncate_log("regularization", 0)
    for step, (candidate, precisions) in enumerate(trials.items(), 1):
        run.log({"stage": "regularization", "step": step, **asdict(candidate), "mAP": precisions.mean().item()})
    return replace(
        settings, regularization=min(select_within_one_standard_error(trials), key=REGULARIZATION_CANDIDATES.index)
    )


# ------------------------------------------------------------------------------------------------- Secs. 4.2, 5.2 and 5.4


def evaluate_generators(
    generators: Mapping[str, nn.Module], settings: Settings, ratios: Sequence[float] = ()
) -> dict[str, dict]:
    """Return :func:`retrieval_curves` of every generator at every ratio, and :func:`query_sizes` of the queries."""
    ratios = ratios or settings.ratios
    low = query_descriptors(settings, ratios)
    return retrieval_curves(
        {name: apply_generator(generator, low) for name, generator in generators.items()}, settings
    ) | query_sizes(settings, ratios)


def query_descriptors(settings: Settings, ratios: Sequence[float]) -> dict[float, Tensor]:
    """Return ratio → descriptors F of the queries downscaled by that ratio per side, ``[Q, D]``."""
    queries, F = open_collection(settings.collection).queries, build_descriptor_cache(settings.embedder)
    files, boxes = [query.image_path for query in queries], [query.box for query in queries]
    return {ratio: describe_files(F, files, ratio, boxes) for ratio in ratios}


def apply_generator(generator: nn.Module, low: Mapping[float, Tensor]) -> dict[float, Tensor]:
    """Apply ``generator`` to the query descriptors of each ratio, ``[Q, D]`` each; it also gets the ratio."""
    return {
        ratio: super_resolve_descriptors(generator, x, torch.full((len(x),), float(ratio))) for ratio, x in low.items()
    }


def retrieval_curves(queries: Mapping[str, Mapping[float, Tensor]], settings: Settings) -> dict[str, dict]:
    """Evaluate named query descriptors: ``{"map": {name: {ratio: 0…1}}, "distance": {name: {ratio: (mean, variance)}}}``.

    The database is at full resolution and not super-resolved; distances are to the full-resolution queries.
    """
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.embedder)
    database, high = describe_files(F, landmarks.database, 1), query_descriptors(settings, [1])[1]
    return {
        "map": {name: map_by_ratio(by_ratio, database, landmarks.queries) for name, by_ratio in queries.items()},
        "distance": {name: distance_by_ratio(by_ratio, high) for name, by_ratio in queries.items()},
    }


def query_sizes(settings: Settings, ratios: Sequence[float]) -> dict[str, dict[float, float]]:
    """Return means over the queries by ratio: ``"short_side"`` in pixels, and ``"bits"`` of the downscaled image as PNG (Sec. 5.4)."""
    images = [read_image_crop(query.image_path, query.box) for query in open_collection(settings.collection).queries]
    small = {ratio: [downscale_image(image, ratio) for image in images] for ratio in ratios}
    return {
        "short_side": {r: sum(min(x.shape[1:]) for x in resized) / len(resized) for r, resized in small.items()},
        "bits": {r: sum(map(png_bits, resized)) / len(resized) for r, resized in small.items()},
    }
