"""What FSR-GAN's benchmark compares with that does not learn from descriptors: pictures enlarged first, and an encoder distilled anew."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from featlift.data.landmarks import read_picture
from featlift.deployment.sr_inference import Deployed
from featlift.gallery import learning, opened, remembering, seen
from featlift.image_sr.network import Network
from featlift.papers import fdsr
from featlift.papers.baseline import Stage
from featlift.papers.fsr_gan import Settings
from featlift.retrieval.descriptors import describe, seen_at
from featlift.rivals import distilled, enlarged
from featlift.training import Descent, Run

SCALES = (2, 3, 4)
"""SRCNN and VDSR are compared at these in the paper (Sec. 5.2)."""
Queries = dict[str, dict[float, torch.Tensor]]


def enlarging(name: str, settings: Settings, steps: int, rate: float, folder: Path) -> dict[float, torch.Tensor]:
    """The queries at the scales of SRCNN and VDSR, enlarged by ``name``, then described; each scale goes on from the one before.

    Trained on windows of 48 px, four a step; run in bf16.
    """
    F, landmarks = remembering(settings.encoding).describer, opened(settings.collection)
    known, found, before = os.path.commonpath(learning(settings.collection)), {}, ""
    for scale in SCALES:
        stage = Stage(steps, Descent("adam", rate, weight_decay=0.0, warmup=10, schedule="cosine", clip=1.0))
        data = fdsr.Data(known, crop=48, batch=4, count=0, workers=0)
        how = fdsr.Settings(Network(name, scale, weights=before), terms=fdsr.Terms(features=0), data=data, train=stage)
        with Run(folder / f"{name}-{scale}", how, device="cpu") as run:
            network = Deployed(fdsr.train(how, run).eval(), "channels-last", "bf16")
        before = str(run.folder / fdsr.NETWORK_FILE)
        images = (read_picture(query.picture, query.box) for query in landmarks.queries)
        found[scale] = enlarged(F, network, images, scale)
    return found


def distilling(settings: Settings, steps: int, folder: Path) -> dict[float, torch.Tensor]:
    """The queries at every ratio as an encoder describes them that was taught to see small pictures (RAML)."""
    F, files = remembering(settings.encoding), learning(settings.collection)
    how = replace(settings, steps=steps, batch=16, descent=Descent("adam", 1e-4, weight_decay=0.0, schedule="cosine"))
    with Run(folder / "distilled", how, device="cpu") as run:
        student = distilled(how, run, files, seen(F, files, 1))
    images = [read_picture(query.picture, query.box) for query in opened(settings.collection).queries]
    return {r: describe(student, (seen_at(image, r, student.size) for image in images)) for r in settings.ratios}


def rivals(settings: Settings, given: argparse.Namespace, folder: Path) -> Queries:
    """One seed of each; a describer without weights has nothing to distil."""
    found = {
        "SRCNN, then F": enlarging("srcnn", settings, given.srcnn_steps, 1e-3, folder),
        "VDSR, then F": enlarging("vdsr", settings, given.vdsr_steps, 3e-4, folder),
    }
    return found | ({"RAML": distilling(settings, given.raml_steps, folder)} if settings.encoding.weights else {})
