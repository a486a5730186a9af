"""What FSR-GAN's benchmark compares with that does not learn from descriptors: pictures enlarged first, and an encoder distilled anew."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from featlift.data.landmarks import read_image_crop
from featlift.deployment.sr_inference import InferenceNetwork
from featlift.gallery import build_descriptor_cache, describe_files, list_train_images, open_collection
from featlift.image_sr.network import SuperResolverConfig
from featlift.papers import fdsr
from featlift.papers.baseline import StageConfig
from featlift.papers.fsr_gan import Settings
from featlift.retrieval.descriptors import downscale_then_resize, embed_images
from featlift.rivals import distill_query_encoder, embed_super_resolved
from featlift.training import OptimizerConfig, Run

SCALES = (2, 3, 4)
"""SRCNN and VDSR are compared at these in the paper (Sec. 5.2)."""
Queries = dict[str, dict[float, torch.Tensor]]


def enlarging(name: str, settings: Settings, steps: int, rate: float, folder: Path) -> dict[float, torch.Tensor]:
    """The queries at the scales of SRCNN and VDSR, enlarged by ``name``, then described; each scale goes on from the one before.

    Trained on windows of 48 px, four a step; run in bf16.
    """
    F, landmarks = build_descriptor_cache(settings.encoding).embedder, open_collection(settings.collection)
    known, found, before = os.path.commonpath(list_train_images(settings.collection)), {}, ""
    for scale in SCALES:
        stage = StageConfig(
            steps,
            OptimizerConfig("adam", rate, weight_decay=0.0, warmup_steps=10, schedule="cosine", max_grad_norm=1.0),
        )
        data = fdsr.CropDataConfig(known, crop_size=48, batch_size=4, num_images=0, num_workers=0)
        how = fdsr.Settings(
            SuperResolverConfig(name, scale, weights=before),
            loss_weights=fdsr.LossWeights(features=0),
            data=data,
            train=stage,
        )
        with Run(folder / f"{name}-{scale}", how, device="cpu") as run:
            network = InferenceNetwork(fdsr.train(how, run).eval(), "channels-last", "bf16")
        before = str(run.folder / fdsr.SUPER_RESOLVER_FILE)
        images = (read_image_crop(query.image_path, query.box) for query in landmarks.queries)
        found[scale] = embed_super_resolved(F, network, images, scale)
    return found


def distilling(settings: Settings, steps: int, folder: Path) -> dict[float, torch.Tensor]:
    """The queries at every ratio as an encoder describes them that was taught to see small pictures (RAML)."""
    F, files = build_descriptor_cache(settings.encoding), list_train_images(settings.collection)
    how = replace(
        settings,
        steps=steps,
        batch_size=16,
        optimizer=OptimizerConfig("adam", 1e-4, weight_decay=0.0, schedule="cosine"),
    )
    with Run(folder / "distilled", how, device="cpu") as run:
        student = distill_query_encoder(how, run, files, describe_files(F, files, 1))
    images = [read_image_crop(query.image_path, query.box) for query in open_collection(settings.collection).queries]
    return {
        r: embed_images(student, (downscale_then_resize(image, r, student.input_size) for image in images))
        for r in settings.ratios
    }


def rivals(settings: Settings, given: argparse.Namespace, folder: Path) -> Queries:
    """One seed of each; a describer without weights has nothing to distil."""
    found = {
        "SRCNN, then F": enlarging("srcnn", settings, given.srcnn_steps, 1e-3, folder),
        "VDSR, then F": enlarging("vdsr", settings, given.vdsr_steps, 3e-4, folder),
    }
    return found | ({"RAML": distilling(settings, given.raml_steps, folder)} if settings.encoding.weights else {})
