"""Baselines of FSR-GAN: ridge regression, one model per ratio, a distilled query encoder, and image super-resolution.

The linear models are in :mod:`featlift.retrieval.linear_baselines`; this module fits all baselines on the training data of G.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.data.retrieval_readers import read_image_crop
from featlift.image_sr.degradation import quantize_8bit
from featlift.losses import focal_distance
from featlift.papers.fsr_gan import Settings
from featlift.papers.fsr_gan.settings import GANConfig, RegularizationConfig
from featlift.papers.fsr_gan.training import build_generator, train_generator
from featlift.resolution import freeze
from featlift.retrieval.descriptor_pairs import DescriptorPairLoader, DescriptorPairs
from featlift.retrieval.descriptors import DOWNSCALERS, Embedder, downscale_image, downscale_then_resize, embed_images
from featlift.retrieval.embedders import build_encoder, build_pooling
from featlift.retrieval.linear_baselines import AffineGenerator, PerRatioGenerator, fit_ridge
from featlift.training import Learner, Run, fit


def fit_best_ridge(pairs: DescriptorPairs, strengths: Sequence[float] = (0.3, 1, 3, 10, 30)) -> AffineGenerator:
    """Fit ridge regression without knowledge of the ratio; the strength is selected on a held-out fourth, then all images are used."""
    held_out = torch.arange(len(pairs.high)) % 4 == 0

    def rows(mask: Tensor) -> tuple[Tensor, Tensor]:
        return pairs.low[:, mask].flatten(0, 1), pairs.high[mask].repeat(len(pairs.ratios), 1)

    low, high = rows(held_out)
    errors = {s: (fit_ridge(*rows(~held_out), alpha=s)(low) - high).square().sum().item() for s in strengths}
    return fit_ridge(*rows(torch.ones_like(held_out)), alpha=min(errors, key=errors.__getitem__))


def fit_mean_offsets(pairs: DescriptorPairs) -> PerRatioGenerator:
    """Fit one offset vector per ratio above 1, the mean difference of F's descriptors; it needs the ratio and ignores the query."""
    ratios = [ratio for ratio in pairs.ratios if ratio > 1]
    generators = [AffineGenerator(pairs.high.shape[1]) for _ in ratios]
    for ratio, generator in zip(ratios, generators, strict=True):
        generator.shift.copy_((pairs.high - pairs.at_ratio(ratio).low[0]).mean(dim=0))
    return PerRatioGenerator(ratios, generators)


def train_per_ratio(pairs: DescriptorPairs, settings: Settings, run: Run) -> PerRatioGenerator:
    """Train one residual MLP per ratio above 1 on that ratio only; together they take as many steps as G."""
    ratios = [ratio for ratio in pairs.ratios if ratio > 1]
    ratio_settings = replace(
        settings,
        generator="residual",
        regularization=RegularizationConfig(),
        adversarial=GANConfig("off"),
        steps=max(1, settings.steps // len(ratios)),
    )
    generators = []
    for ratio in ratios:
        generator = build_generator(ratio_settings, pairs.high.shape[1])
        generators.append(train_generator(generator, pairs.at_ratio(ratio), ratio_settings, run, f"ratio-{ratio:g}"))
    return PerRatioGenerator(ratios, generators)


def distill_query_encoder(settings: Settings, run: Run, files: Sequence[Path], targets: Tensor) -> Embedder:
    """Distill a query encoder: a copy of F's encoder that reproduces F's descriptors of full-size images from downscaled ones.

    Resolution-asymmetric distillation (after Suma and Tolias, WACV 2023, absolute term only): the whole network is trained, where G trains
    a few layers, and images are read at every step. Batch norms keep their statistics. ``targets [N, D]`` are F's descriptors of ``files``.
    """
    config, R, N = settings.embedder, len(settings.ratios), len(files)
    student = nn.Sequential(build_encoder(config)[0], build_pooling(config))
    for norm in [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]:
        freeze(norm)
    learner = Learner(student, settings.optimizer, settings.steps)
    downscale = DOWNSCALERS[config.downscale_mode]

    def step(batch: Any, high: Any) -> Mapping[str, Tensor]:
        rows, ratios = (values.tolist() for values in batch)
        images = [
            downscale(read_image_crop(files[row]), ratio, config.input_size)
            for row, ratio in zip(rows, ratios, strict=True)
        ]
        low = nnf.normalize(student(torch.stack(images).to(high)), dim=1)
        return learner.step({"content": focal_distance(low, high, settings.focal_exponent)})

    # The loader yields image indices in place of low-resolution descriptors.
    indices = DescriptorPairs(settings.ratios, torch.arange(N).expand(R, N), targets)
    loader = DescriptorPairLoader(indices, settings.batch_size, run.seed)
    fit(step, loader, settings.steps, run, {"student": learner}, "distilled")
    return Embedder(student[0], student[1], config.input_size)


@torch.no_grad()
def embed_super_resolved(
    embedder: Embedder, super_resolver: nn.Module, images: Iterable[Tensor], ratio: float
) -> Tensor:
    """Return descriptors ``[N, D]`` of images ``[3, H, W]`` that were downscaled by ``ratio`` and enlarged by ``super_resolver``.

    This is the image super-resolution baseline of the paper (SRCNN and VDSR, Sec. 5.2).
    """
    enlarged = (super_resolver(quantize_8bit(downscale_image(image, ratio))[None])[0].clamp(0, 1) for image in images)
    return embed_images(embedder, (downscale_then_resize(image, 1, embedder.input_size) for image in enlarged))
