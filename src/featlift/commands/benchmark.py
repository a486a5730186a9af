"""``featlift benchmark``: compare interpolators at an equal training budget, pre-training included, with controls that the papers lack.

All candidates start from one detector with nearest interpolation (the teacher, F) and train for the total steps of AFI-GAN's stages 1, 2
and 3. ``NAME`` is trained in these stages with the interpolator in place of G: "bilinear" is distillation alone, and an interpolator
without parameters gets the steps of stage 1 in stage 3. ``NAME:plain`` is trained with the detection losses alone: "nearest:plain" is the
teacher, trained further. ``NAME:distilled`` is trained like the light interpolator: in the steps of stage 1 it is distilled from the
teacher's pyramid of the large image, without a discriminator, and then fine-tuned with the detector (`featlift.papers.light`).
"""

import shlex
from pathlib import Path
from typing import Any

from featlift.checkpoints.json_io import write_json
from featlift.device import resolve_device
from featlift.experiments import ranking
from featlift.experiments.equal_budget import build_candidate, build_metadata, load_preset, run_benchmark
from featlift.experiments.equal_steps import scale_steps
from featlift.papers import afi_gan
from featlift.papers.registry import PAPERS
from featlift.runs.announce import announce_training
from featlift.runs.presets import PRESETS, choose_preset
from featlift.runs.refused import discard_refused_run

DEFAULT_CANDIDATES = ("nearest:plain", "nearest", "bilinear", "deconv", "dysample", "carafe", "afi")


def benchmark(
    candidates: tuple[str, ...] = (),
    out: str = "runs/benchmark",
    data: str = "",
    num_seeds: int = 3,
    preset: str = "",
    step_scale: float = 1.0,
    device: str = "auto",
    n_resamples: int = 1000,
) -> dict[str, Any]:
    """Train interpolators from one start for equal numbers of steps with several seeds, and compare all with the first.

    Args:
        candidates: Interpolators: "NAME" (AFI-GAN's stages), "NAME:plain" (detection losses alone) or "NAME:distilled" (as `light`).
            The first is the reference. Default: nearest:plain nearest bilinear deconv dysample carafe afi.
        out: Output folder; an interrupted benchmark resumes in the same folder.
        data: COCO folder; default: the preset's data.
        num_seeds: Number of repetitions, with the seeds 0, 1, ….
        preset: Preset of AFI-GAN's settings: quick, finetune, paper, dense, transformer, official. Without it, the data decide: quick
            for the built-in scenes, finetune for one's own images.
        step_scale: Factor on the steps of every stage.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        n_resamples: Number of bootstrap resamples of images and seeds for the confidence intervals.

    Returns:
        The content of ``benchmark.json``: ``{"tables", "metadata"}``.

    Raises:
        ValueError: If a name or preset is unknown, a name is repeated, or there is no seed.
    """
    preset = preset or choose_preset(data, PAPERS["afi-gan"].presets)
    specs, settings = candidates or DEFAULT_CANDIDATES, scale_steps(load_preset(preset, data), step_scale)
    _announce(specs[0], settings, preset, device)
    command = shlex.join(["featlift", "benchmark", *specs, "--data", settings.data.root, "--num-seeds", str(num_seeds)])
    with discard_refused_run(Path(out) / "seed-0" / "start"):
        tables = run_benchmark(specs, settings, Path(out), num_seeds, device, n_resamples)
    metadata = build_metadata(f"{command} --preset {preset} --step-scale {step_scale:g}", num_seeds, device)
    content = {"tables": tables, "metadata": metadata}
    write_json(Path(out) / "benchmark.json", content)
    ranking.print_ranking(tables[0]["rows"], tables[0]["caption"])
    print(Path(out) / "benchmark.json")
    return content


def _announce(spec: str, settings: afi_gan.Settings, preset: str, device: str) -> None:
    """Print the preset and the training of the candidate ``spec``; settings that cannot work are refused."""
    candidate = build_candidate(spec, settings, "")
    description = PAPERS[candidate.paper].describe(candidate.settings, "")
    print(f"preset {preset}: {PRESETS[preset]}; --preset NAME chooses another")
    print(f"{spec}: {announce_training(candidate.paper, description, str(resolve_device(device)))}")
