"""``featlift train``: train a paper's method in a run folder, evaluate it and write a report."""

import os
from typing import Any

from featlift.device import resolve_device
from featlift.papers.registry import PAPERS
from featlift.runs.announce import announce_training
from featlift.runs.options import RunOptions, open_run
from featlift.runs.refused import discard_refused_run


def train(paper: str, settings: Any, run_options: RunOptions) -> dict[str, Any]:
    """Train ``paper`` ("baseline", "afi-gan", …) with ``settings`` and evaluate the result.

    Writes ``result.json`` and, for detectors, ``detections.json`` and ``report.html`` into the run folder. With
    ``run_options.stop_after`` the detector of that stage is evaluated ("extractor" is A3 of AFI-GAN's Table 4), and the result is named
    "afi-gan, extractor"; after "interpolator" there is no detector to evaluate. Returns the content of ``result.json`` (empty without
    evaluation). One line is printed before the training; a training that is refused before its first step leaves no run folder.
    """
    with discard_refused_run(run_options.run):
        if os.environ.get("RANK", "0") == "0":
            device = str(resolve_device(run_options.device))
            print(announce_training(paper, PAPERS[paper].describe(settings, run_options.stop_after), device))
        with open_run(paper, settings, run_options) as run:
            return PAPERS[paper].run(settings, run, run_options.stop_after, paper)
