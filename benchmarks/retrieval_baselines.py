"""Baselines of FSR-GAN: ridge regression, one model per ratio, a distilled query encoder, and image super-resolution.

All learn from the training data of G. The linear models are in ``linear_generators.py``.
"""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from linear_generators import AffineGenerator, PerRatioGenerator, fit_ridge
from torch import Tensor, nn

from featlift.data.image_io import read_image_crop
from featlift.data.retrieval_collections import list_train_images, open_collection
from featlift.deployment.sr_inference import InferenceNetwork
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE
from featlift.image_sr.network import SuperResolverConfig
from featlift.papers import fdsr
from featlift.papers.fdsr.settings import CropDataConfig, LossWeights
from featlift.papers.fsr_gan import Settings
from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.papers.fsr_gan.settings import GANConfig, RegularizationConfig
from featlift.papers.fsr_gan.training import build_generator, train_generator
from featlift.resolution import freeze, quantize_8bit
from featlift.retrieval.descriptor_pairs import DescriptorPairLoader, DescriptorPairs
from featlift.retrieval.descriptors import DOWNSCALERS, Embedder, downscale_image, downscale_then_resize, embed_images
from featlift.retrieval.embedders import build_encoder, build_pooling
from featlift.retrieval.embedding_cache import build_descriptor_cache
from featlift.retrieval.losses import focal_distance
from featlift.training import Learner, OptimizerConfig, Run, fit
from featlift.training.schedules import StageConfig

SCALES = (2, 3, 4)
"""Scales of SRCNN and VDSR in the paper (Sec. 5.2)."""
Queries = dict[str, dict[float, torch.Tensor]]


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


def super_resolved_queries(
    name: str, settings: Settings, steps: int, lr: float, folder: Path
) -> dict[float, torch.Tensor]:
    """Return descriptors of queries super-resolved by ``name`` at each of :data:`SCALES`; each scale is initialized from the previous one.

    Trained on crops of 48 px with batch size 4; inference in bf16.
    """
    F, landmarks = build_descriptor_cache(settings.embedder).embedder, open_collection(settings.collection)
    train_folder, descriptors, weights = os.path.commonpath(list_train_images(settings.collection)), {}, ""
    for scale in SCALES:
        stage = StageConfig(
            steps,
            OptimizerConfig("adam", lr, weight_decay=0.0, warmup_steps=10, schedule="cosine", max_grad_norm=1.0),
        )
        data = CropDataConfig(train_folder, crop_size=48, batch_size=4, num_images=0, num_workers=0)
        sr_settings = fdsr.Settings(
            SuperResolverConfig(name, scale, weights=weights),
            loss_weights=LossWeights(features=0),
            data=data,
            train=stage,
        )
        with Run(folder / f"{name}-{scale}", sr_settings, device="cpu") as run:
            network = InferenceNetwork(fdsr.train(sr_settings, run).eval(), "channels-last", "bf16")
        weights = str(run.folder / SUPER_RESOLVER_FILE)
        images = (read_image_crop(query.image_path, query.box) for query in landmarks.queries)
        descriptors[scale] = embed_super_resolved(F, network, images, scale)
    return descriptors


def distilled_queries(settings: Settings, steps: int, folder: Path) -> dict[float, torch.Tensor]:
    """Return descriptors of the queries at every ratio from an encoder distilled for low-resolution images (RAML)."""
    F, files = build_descriptor_cache(settings.embedder), list_train_images(settings.collection)
    distillation_settings = replace(
        settings,
        steps=steps,
        batch_size=16,
        optimizer=OptimizerConfig("adam", 1e-4, weight_decay=0.0, schedule="cosine"),
    )
    with Run(folder / "distilled", distillation_settings, device="cpu") as run:
        student = distill_query_encoder(distillation_settings, run, files, describe_files(F, files, 1))
    images = [read_image_crop(query.image_path, query.box) for query in open_collection(settings.collection).queries]
    return {
        r: embed_images(student, (downscale_then_resize(image, r, student.input_size) for image in images))
        for r in settings.ratios
    }


def train_baselines(settings: Settings, args: argparse.Namespace, folder: Path) -> Queries:
    """Train each baseline with one seed; an embedder without weights is not distilled."""
    queries = {
        "SRCNN, then F": super_resolved_queries("srcnn", settings, args.srcnn_steps, 1e-3, folder),
        "VDSR, then F": super_resolved_queries("vdsr", settings, args.vdsr_steps, 3e-4, folder),
    }
    return queries | (
        {"RAML": distilled_queries(settings, args.raml_steps, folder)} if settings.embedder.weights else {}
    )
