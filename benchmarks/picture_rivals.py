"""Baselines of FSR-GAN's benchmark that are not trained on descriptors: image super-resolution and a distilled encoder."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from featlift.data.retrieval_collections import list_train_images, open_collection
from featlift.data.retrieval_readers import read_image_crop
from featlift.deployment.sr_inference import InferenceNetwork
from featlift.image_sr.network import SuperResolverConfig
from featlift.papers import fdsr
from featlift.papers.fdsr.settings import CropDataConfig, LossWeights
from featlift.papers.fsr_gan import Settings
from featlift.retrieval.descriptors import downscale_then_resize, embed_images
from featlift.retrieval.embedding_cache import build_descriptor_cache, describe_files
from featlift.rivals import distill_query_encoder, embed_super_resolved
from featlift.training import OptimizerConfig, Run
from featlift.training.schedules import StageConfig

SCALES = (2, 3, 4)
"""Scales of SRCNN and VDSR in the paper (Sec. 5.2)."""
Queries = dict[str, dict[float, torch.Tensor]]


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
        weights = str(run.folder / fdsr.SUPER_RESOLVER_FILE)
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
