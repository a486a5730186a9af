"""Training of FSR-GAN's descriptor generator (Secs. 3.2 and 3.3, Eqs. (3) to (9))."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from featlift.checkpoints import save
from featlift.data.image_io import read_image_sizes
from featlift.data.retrieval_collections import list_train_images
from featlift.data.retrieval_images import random_crop_box
from featlift.data.retrieval_readers import RetrievalQuery
from featlift.evaluation.retrieval import (
    query_average_precisions,
    select_within_one_standard_error,
)
from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.papers.fsr_gan.evaluation import apply_generator
from featlift.papers.fsr_gan.settings import (
    GAN_LOSSES,
    GENERATORS,
    REGULARIZATION_CANDIDATES,
    GANConfig,
    RegularizationConfig,
    Settings,
)
from featlift.papers.fsr_gan.vector_pairs import read_vector_pairs
from featlift.registry import check_choice
from featlift.retrieval.descriptor_pairs import DescriptorPairLoader, DescriptorPairs
from featlift.retrieval.discriminator import DescriptorDiscriminator, MLPDiscriminator
from featlift.retrieval.embedding_cache import DescriptorCache, build_descriptor_cache
from featlift.retrieval.generator import (
    GENERATOR_FILE,
    ConditionedGenerator,
    DescriptorGenerator,
    ResidualGenerator,
)
from featlift.retrieval.losses import clip_weights, focal_distance, gradient_penalty, relative_distance
from featlift.training import Learner, Run, fit
from featlift.training.learner import not_compiled

SELECTION_FRACTION = 3 / 4
"""Share of the pairs on which the candidates of the regularization are trained; the others evaluate them."""

eager_gradient_penalty = not_compiled(gradient_penalty)
"""Not compiled, because compiled networks have no second derivatives."""


def train(settings: Settings, run: Run) -> nn.Module:
    """Train G on the descriptors of ``settings.collection``, or on ``settings.vectors``, and save it as ``generator.safetensors``."""
    if settings.vectors:
        pairs, _ = read_vector_pairs(settings)
        settings = select_regularization_on_pairs(settings, pairs, run)
        G = train_generator(build_generator(settings, pairs.high.shape[1]), pairs, settings, run)
        save(G, run.folder / GENERATOR_FILE)
        return G
    F, files = build_descriptor_cache(settings.embedder), list_train_images(settings.collection)
    pairs = build_descriptor_pairs(F, files, settings.ratios)
    settings = select_regularization(settings, F, files, pairs, run)
    G = build_generator(settings, pairs.high.shape[1], full_image_side(settings, files))
    train_generator(G, pairs, settings, run)
    save(G, run.folder / GENERATOR_FILE)
    return G


def build_descriptor_pairs(F: DescriptorCache, files: Sequence[Path], ratios: Sequence[float]) -> DescriptorPairs:
    """Compute the descriptors F of every file at every ratio, and at full size."""
    return DescriptorPairs(
        ratios, torch.stack([describe_files(F, files, ratio) for ratio in ratios]), describe_files(F, files, 1)
    )


def full_image_side(settings: Settings, files: Sequence[Path]) -> float:
    """Return the short side in pixels of an image at ratio 1: the median of the training images, or the input size if it is reduced."""
    if settings.embedder.downscale_mode == "input":
        return float(settings.embedder.input_size)
    return median(min(read_image_sizes(file)[0]) for file in files)


def build_generator(settings: Settings, descriptor_dim: int, full_side: float | None = None) -> nn.Module:
    """Build G for descriptors of dimension ``descriptor_dim``.

    Args:
        settings: Generator, its hidden dimension and its rank.
        descriptor_dim: D.
        full_side: :func:`full_image_side`, which a conditioned generator keeps for its searches.

    Raises:
        ValueError: If the generator's name is unknown.
    """
    if settings.generator == "paper":
        return DescriptorGenerator(descriptor_dim)
    check_choice(settings.generator, GENERATORS, "generator")
    rank = (settings.regularization or RegularizationConfig()).rank
    if settings.generator == "conditioned":
        return ConditionedGenerator(descriptor_dim, settings.hidden_dim, rank=rank, full_side=full_side)
    return ResidualGenerator(descriptor_dim, settings.hidden_dim, rank=rank)


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
    config, steps = settings.adversarial, settings.steps * settings.adversarial.critic_updates
    critic_loss, generator_loss = GAN_LOSSES[config.kind]
    generator, critic = Learner(G, settings.optimizer, settings.steps), Learner(D, settings.optimizer, steps)

    def step(low: Any, high: Any) -> Mapping[str, Tensor]:
        fake = G(*low)
        losses = {"critic": critic_loss(D(high), D(fake.detach()))}
        if config.kind == "wgan-gp":
            losses["penalty"] = config.penalty_weight * eager_gradient_penalty(D, high, fake.detach())
        log = critic.step(losses)
        if config.kind == "wgan-clip":
            clip_weights(D, config.weight_clip)
        if critic.num_calls % config.critic_updates:
            return log
        content = descriptor_content_loss(fake, low[0], high, settings)
        return log | generator.step({"content": content, "adversarial": config.term_weight * generator_loss(D(fake))})

    fit(step, loader, steps, run, {"generator": generator, "critic": critic}, stage_name)


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
    val_files = list(files[-(len(files) - round(SELECTION_FRACTION * len(files))) :])
    crops = [random_crop_box(file, number) for number, file in enumerate(val_files)]
    low = {ratio: describe_files(F, val_files, ratio, crops) for ratio in settings.ratios}
    return _select_by_trials(settings, pairs, low, run)


def select_regularization_on_pairs(settings: Settings, pairs: DescriptorPairs, run: Run) -> Settings:
    """As :func:`select_regularization`, for vectors without images: the queries are the low-resolution vectors of the last quarter."""
    if settings.regularization is not None:
        return settings
    val_pairs = pairs.split(SELECTION_FRACTION)[1]
    return _select_by_trials(settings, pairs, dict(zip(pairs.ratios, val_pairs.low, strict=True)), run)


def _select_by_trials(settings: Settings, pairs: DescriptorPairs, low: Mapping[float, Tensor], run: Run) -> Settings:
    """Train each candidate on the first pairs; ``low`` are the queries, by ratio, whose positives are the rows of the last pairs."""
    train_pairs, val_pairs = pairs.split(SELECTION_FRACTION)
    queries = [RetrievalQuery(Path(), frozenset({row})) for row in range(len(val_pairs.high))]

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
