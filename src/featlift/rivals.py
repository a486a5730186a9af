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

from featlift.data.landmarks import read_picture
from featlift.data.pairs import PairBatches, Pairs
from featlift.gallery import network_of, pool_of
from featlift.image_sr.degradation import as_stored
from featlift.losses import focal_distance
from featlift.papers.fsr_gan import Caution, Game, Settings, descend, generator
from featlift.resolution import freeze
from featlift.retrieval.descriptors import VIEWS, Describer, describe, reduced, seen_at
from featlift.retrieval.linear_baselines import Affine, PerRatio, ridge
from featlift.training import Learner, Run, fit


def strongest_ridge(pairs: Pairs, strengths: Sequence[float] = (0.3, 1, 3, 10, 30)) -> Affine:
    """Blind ridge regression; its strength is chosen on every fourth picture, held out, then all are used."""
    held = torch.arange(len(pairs.high)) % 4 == 0

    def rows(chosen: Tensor) -> tuple[Tensor, Tensor]:
        return pairs.low[:, chosen].flatten(0, 1), pairs.high[chosen].repeat(len(pairs.ratios), 1)

    low, high = rows(held)
    left = {s: (ridge(*rows(~held), strength=s)(low) - high).square().sum().item() for s in strengths}
    return ridge(*rows(torch.ones_like(held)), strength=min(left, key=left.__getitem__))


def mean_shift(pairs: Pairs) -> PerRatio:
    """For each ratio above 1 one vector, what F loses on average: nothing of the picture at hand is guessed, but the ratio is told."""
    ratios = [ratio for ratio in pairs.ratios if ratio > 1]
    lifts = [Affine(pairs.high.shape[1]) for _ in ratios]
    for ratio, lift in zip(ratios, lifts, strict=True):
        lift.shift.copy_((pairs.high - pairs.only(ratio).low[0]).mean(dim=0))
    return PerRatio(ratios, lifts)


def per_ratio(pairs: Pairs, settings: Settings, run: Run) -> PerRatio:
    """A residual MLP for each ratio above 1, trained on that ratio alone; all together take as many steps as G."""
    ratios = [ratio for ratio in pairs.ratios if ratio > 1]
    share = max(1, settings.steps // len(ratios))
    each = replace(settings, generator="residual", caution=Caution(), game=Game("off"), steps=share)
    dimension = pairs.high.shape[1]
    lifts = [descend(generator(each, dimension), pairs.only(r), each, run, f"ratio-{r:g}") for r in ratios]
    return PerRatio(ratios, lifts)


def distilled(settings: Settings, run: Run, files: Sequence[Path], high: Tensor) -> Describer:
    """Another F for queries: a copy of the encoder, taught to give for a small picture what F gives for the large one.

    Resolution-asymmetric distillation (after Suma and Tolias, WACV 2023, the absolute term alone): a whole network is
    trained where G trains a few layers, and pictures are read at every step. Batch norms keep their statistics. ``high
    [N, D]`` are F's descriptors of ``files``.
    """
    encoding, R, N = settings.encoding, len(settings.ratios), len(files)
    student = nn.Sequential(network_of(encoding)[0], pool_of(encoding))
    for norm in [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]:
        freeze(norm)
    learner = Learner(student, settings.descent, settings.steps)
    view = VIEWS[encoding.view]

    def step(drawn: Any, high: Any) -> Mapping[str, Tensor]:
        rows, ratios = (each.tolist() for each in drawn)
        small = [view(read_picture(files[i]), ratio, encoding.size) for i, ratio in zip(rows, ratios, strict=True)]
        low = nnf.normalize(student(torch.stack(small).to(high)), dim=1)
        return learner.descend({"content": focal_distance(low, high, settings.exponent)})

    numbers = Pairs(settings.ratios, torch.arange(N).expand(R, N), high)
    fit(step, PairBatches(numbers, settings.batch, run.seed), settings.steps, run, {"student": learner}, "distilled")
    return Describer(student[0], student[1], encoding.size)


@torch.no_grad()
def enlarged(F: Describer, network: nn.Module, images: Iterable[Tensor], ratio: float) -> Tensor:
    """F of pictures ``[3, H, W]`` that were made ``ratio`` times smaller and enlarged again by ``network``, ``[N, D]``.

    The other way to help a small query, which the paper compares with (SRCNN and VDSR, Sec. 5.2): picture first, then descriptor.
    """
    large = (network(as_stored(reduced(image, ratio))[None])[0].clamp(0, 1) for image in images)
    return describe(F, (seen_at(image, 1, F.size) for image in large))
