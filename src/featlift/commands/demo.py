"""``featlift demo``: a detector on synthetic images, its extended level without labels, and AFI-GAN's stages at equal steps."""

from pathlib import Path
from typing import Any

from featlift.experiments.demonstration import run_demo


def demo(out: str = "runs/demo", seed: int = 3, step_scale: float = 1.0, device: str = "auto") -> dict[str, Any]:
    """Train a detector, improve it in two ways, compare each with the detector, and write a report.

    A small FCOS is trained on procedural scenes with small signs. First, it learns a finer level without labels, from its own output on
    the images enlarged by 2; the result is compared with the detector and with the detector on the enlarged images. Second, copies are
    trained further in AFI-GAN's three stages and with nearest interpolation, for equal steps. The report lists AP differences, the
    objects gained and lost, and the time per image.

    Args:
        out: Output folder; an interrupted demo resumes in the same folder.
        seed: Seed of scenes and training; the seeds 0, 1 and 2 are those of ``benchmarks/demo_seeds.py``.
        step_scale: Factor on the steps of every stage (0.05: smoke test).
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
    """
    return run_demo(Path(out), seed, step_scale, device)
