"""``featlift train``: train a paper's method in a run folder, evaluate it and write a report."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featlift.data.formats.torch_dataset import register_training_data
from featlift.device import resolve_device
from featlift.papers.registry import PAPERS
from featlift.runs.announce import announce_training
from featlift.runs.options import RunOptions, open_run
from featlift.runs.refused import discard_refused_run


def train(
    paper: str, settings: Any, run_options: RunOptions, data: Any = None, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """Train ``paper`` ("baseline", "afi-gan", …) with ``settings`` and evaluate the result.

    Writes ``result.json`` and, for detectors, ``detections.json`` and ``report.html`` into the run folder. With
    ``run_options.stop_after`` the detector of that stage is evaluated ("extractor" is A3 of AFI-GAN's Table 4), and the result is named
    "afi-gan, extractor"; after "interpolator" there is no detector to evaluate. Returns the content of ``result.json`` (empty without
    evaluation). One line is printed before the training; a training that is refused before its first step leaves no run folder.

    Args:
        paper: Name of the paper in `featlift.papers.registry.PAPERS`.
        settings: Settings of the paper.
        run_options: Run folder, device, precision, …
        data: From Python: datasets that replace ``settings.data.root``, ``{"train": …, "val": …}`` or a single one, of which every tenth
            image is then for validation. Their items are (image, target) as torchvision's detectors take them.
        classes: Names of the labels 1…K of ``data``; by default its attribute ``classes``.
    """
    if data is not None:
        settings = _use_datasets(paper, settings, register_training_data(Path(run_options.run).name, data, classes))
    with discard_refused_run(run_options.run):
        if os.environ.get("RANK", "0") == "0":
            device = str(resolve_device(run_options.device))
            print(announce_training(paper, PAPERS[paper].describe(settings, run_options.stop_after), device))
        with open_run(paper, settings, run_options) as run:
            return PAPERS[paper].run(settings, run, run_options.stop_after, paper)


def _use_datasets(paper: str, settings: Any, root: str) -> Any:
    """``settings`` with the registered datasets ``root``."""
    if not hasattr(getattr(settings, "data", None), "root"):
        raise ValueError(f"{paper} is not trained on images with objects, so it takes no datasets; see its settings.")
    return replace(settings, data=replace(settings.data, root=root))
