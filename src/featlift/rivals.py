"""What FSR-GAN has to beat: ridge regression, one model for each ratio, another encoder for queries, and pictures enlarged first.

The closed forms themselves are parts (:mod:`featlift.retrieval.linear_baselines`); here they learn from what G learns from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.data.landmarks import read_image_crop
from featlift.data.pairs import DescriptorPairLoader, DescriptorPairs
from featlift.gallery import build_encoder, build_pooling
from featlift.image_sr.degradation import quantize_8bit
from featlift.losses import focal_distance
from featlift.papers.fsr_gan import GANConfig, RegularizationConfig, Settings, build_generator, train_generator
from featlift.resolution import freeze
from featlift.retrieval.descriptors import DOWNSCALERS, Embedder, downscale_image, downscale_then_resize, embed_images
from featlift.retrieval.linear_baselines import AffineGenerator, PerRatioGenerator, fit_ridge
from featlift.training import Learner, Run, fit


def fit_best_ridge(pairs: DescriptorPairs, strengths: Sequence[float] = (0.3, 1, 3, 10, 30)) -> AffineGenerator:
    """Blind ridge regression; its strength is chosen on every fourth picture, held out, then all are used."""
    held = torch.arange(len(pairs.high)) % 4 == 0

    def rows(chosen: Tensor) -> tuple[Tensor, Tensor]:
        return pairs.low[:, chosen].flatten(0, 1), pairs.high[chosen].repeat(len(pairs.ratios), 1)

    low, high = rows(held)
    left = {s: (fit_ridge(*rows(~held), alpha=s)(low) - high).square().sum().item() for s in strengths}
    return fit_ridge(*rows(torch.ones_like(held)), alpha=min(left, key=left.__getitem__))


def fit_mean_offsets(pairs: DescriptorPairs) -> PerRatioGenerator:
    """For each ratio above 1 one vector, what F loses on average: nothing of the picture at hand is guessed, but the ratio is told."""
    ratios = [ratio for ratio in pairs.ratios if ratio > 1]
    lifts = [AffineGenerator(pairs.high.shape[1]) for _ in ratios]
    for ratio, lift in zip(ratios, lifts, strict=True):
        lift.shift.copy_((pairs.high - pairs.at_ratio(ratio).low[0]).mean(dim=0))
    return PerRatioGenerator(ratios, lifts)


def train_per_ratio(pairs: DescriptorPairs, settings: Settings, run: Run) -> PerRatioGenerator:
    """A residual MLP for each ratio above 1, trained on that ratio alone; all together take as many steps as G."""
    ratios = [ratio for ratio in pairs.ratios if ratio > 1]
    share = max(1, settings.steps // len(ratios))
    each = replace(
        settings, generator="residual", regularization=RegularizationConfig(), adversarial=GANConfig("off"), steps=share
    )
    dimension = pairs.high.shape[1]
    lifts = [
        train_generator(build_generator(each, dimension), pairs.at_ratio(r), each, run, f"ratio-{r:g}") for r in ratios
    ]
    return PerRatioGenerator(ratios, lifts)


def distill_query_encoder(settings: Settings, run: Run, files: Sequence[Path], targets: Tensor) -> Embedder:
    """Another F for queries: a copy of the encoder, taught to give for a small picture what F gives for the large one.

    Resolution-asymmetric distillation (after Suma and Tolias, WACV 2023, the absolute term alone): a whole network is
    trained where G trains a few layers, and pictures are read at every step. Batch norms keep their statistics. ``high
    [N, D]`` are F's descriptors of ``files``.
    """
    encoding, R, N = settings.encoding, len(settings.ratios), len(files)
    student = nn.Sequential(build_encoder(encoding)[0], build_pooling(encoding))
    for norm in [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]:
        freeze(norm)
    learner = Learner(student, settings.optimizer, settings.steps)
    view = DOWNSCALERS[encoding.downscale_mode]

    def step(drawn: Any, high: Any) -> Mapping[str, Tensor]:
        rows, ratios = (each.tolist() for each in drawn)
        small = [
            view(read_image_crop(files[i]), ratio, encoding.input_size) for i, ratio in zip(rows, ratios, strict=True)
        ]
        low = nnf.normalize(student(torch.stack(small).to(high)), dim=1)
        return learner.step({"content": focal_distance(low, high, settings.focal_exponent)})

    numbers = DescriptorPairs(settings.ratios, torch.arange(N).expand(R, N), targets)
    fit(
        step,
        DescriptorPairLoader(numbers, settings.batch_size, run.seed),
        settings.steps,
        run,
        {"student": learner},
        "distilled",
    )
    return Embedder(student[0], student[1], encoding.input_size)


@torch.no_grad()
def embed_super_resolved(
    embedder: Embedder, super_resolver: nn.Module, images: Iterable[Tensor], ratio: float
) -> Tensor:
    """F of pictures ``[3, H, W]`` that were made ``ratio`` times smaller and enlarged again by ``super_resolver``, ``[N, D]``.

    The other way to help a small query, which the paper compares with (SRCNN and VDSR, Sec. 5.2): picture first, then descriptor.
    """
    large = (super_resolver(quantize_8bit(downscale_image(image, ratio))[None])[0].clamp(0, 1) for image in images)
    return embed_images(embedder, (downscale_then_resize(image, 1, embedder.input_size) for image in large))
