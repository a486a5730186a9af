"""``featlift demo``: AFI-GAN on synthetic images, compared with a detector trained for the same number of steps."""

from pathlib import Path
from typing import Any

from featlift.experiments.equal_steps import run_equal_steps, scale_steps
from featlift.papers import afi_gan


def demo(out: str = "runs/demo", seed: int = 0, step_scale: float = 0.7, device: str = "auto") -> dict[str, Any]:
    """Train two detectors for equal numbers of steps, compare them, and write a report.

    A small Faster R-CNN with nearest interpolation is trained on procedural scenes. From this common start, the control is trained
    further with nearest interpolation, the other copy in AFI-GAN's three stages, for the same number of steps. The report and the
    printed table list AP differences and the objects gained and lost.

    Args:
        out: Output folder; an interrupted demo resumes in the same folder.
        seed: Random seed.
        step_scale: Factor on the steps of every stage of the quick preset (1: ``benchmarks/equal_steps.py scenes``; 0.05: smoke test).
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
    """
    return run_equal_steps(scale_steps(afi_gan.Settings.quick(), step_scale), Path(out), seed, device)
