"""What only a GPU can show, in one command of at most nine minutes: ``benchmarks/gpu.sh [--device cuda] [--seconds 540]``.

1. Every paper, detector and verb on the device (the commands of ``tests/device_commands.py``), in fp32, bf16 and fp16.
2. Compiled interpolators against eager ones.
3. Latencies: interpolators, a step of AFI-GAN's stage 1, Mask R-CNN on 800x1216, super-resolution networks, embedders and generators of
   image retrieval.
4. The built-in scenes: AFI-GAN's three stages against nearest interpolation at equal steps, at up to 20 times the length of the CPU's runs,
   for the time that is left.

A part that fails is recorded with its error, and the next begins. Commands take at most half of the time; those that need LanceDB
(``featlift index``, ``search``) are left out where it is not installed; both are recorded. Results: ``benchmarks/results/gpu.json``,
written after each part. With ``--device cpu --tiny`` everything runs in small sizes on the CPU.
"""

import argparse
import importlib.util
import re
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from optimized_interpolators import mask_rcnn_table
from run import RESULTS, collect_metadata, write_result
from search import time_interleaved
from stage1_step import stage1_step
from super_resolvers import time_configurations
from tests.device_commands import COMMANDS, split_command, write_inputs

from featlift.cli import main as cli
from featlift.experiments.equal_steps import run_equal_steps, scale_steps
from featlift.interpolators import interpolator
from featlift.papers import afi_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.generator import DescriptorGenerator, ResidualGenerator, super_resolve_descriptors
from interpolators import interpolators

PRECISIONS = ("fp32", "bf16", "fp16")
COMPILED = ("afi", "srf", "light", "carafe", "dysample")
LONGEST_SCALE = 20.0
TINY_SCALE, TRIAL_SCALE = 0.001, 0.05
"""Factors on the steps of a tiny training, and of the training that measures the time of a step."""
COMMANDS_SHARE = 0.5
"""Part of the time after which no further command of `COMMANDS` is started."""
NEED_LANCEDB = ("index ", "search ")
TRAINING_SHARE = 0.8
"""Part of the time that is left which the training takes; the rest is for its evaluation."""

Table = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """Device, sizes and the time limit (``time.monotonic()``) of the parts."""

    device: torch.device
    tiny: bool
    deadline: float

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


def check_commands(setup: Setup, names: tuple[str, ...] = tuple(COMMANDS)) -> list[Table]:
    """Run the commands of each name in every precision; one row per name, with "ok", the failed command or why it was not run."""
    rows, last_start = [], time.monotonic() + COMMANDS_SHARE * setup.seconds_left
    with tempfile.TemporaryDirectory() as folder:
        places = write_inputs(Path(folder))
        for name in names:
            row: Table = {"commands": name}
            for precision in PRECISIONS:
                if not setup.tiny and time.monotonic() > last_start:
                    row[precision] = "not run: no time left"
                    continue
                places["out"] = Path(folder) / "runs" / precision
                start = time.perf_counter()
                row[precision] = _run_commands(COMMANDS[name], places, setup.device, precision)
                row[f"{precision}, s"] = round(time.perf_counter() - start, 1)
            rows.append(row)
    return [{"caption": f"Commands on {setup.device.type}", "rows": rows}]


def _run_commands(commands: list[str], places: dict[str, Path], device: torch.device, precision: str) -> str:
    left_out = [] if importlib.util.find_spec("lancedb") else [one for one in commands if one.startswith(NEED_LANCEDB)]
    for command in (one for one in commands if one not in left_out):
        words = split_command(set_device(command, device.type, precision), places)
        if cli.main(words):
            return f"failed: featlift {' '.join(words)}"
    return "ok" + "".join(f", without {one.split()[0]} (no LanceDB)" for one in left_out)


def set_device(command: str, device: str, precision: str) -> str:
    """Replace the device "other" and the precision of ``command``; only trainings have a precision."""
    command = re.sub(r" --precision \w+", "", command).replace("--device other", f"--device {device}")
    return f"{command} --precision {precision}" if command.startswith("train ") else command


def check_compiled(setup: Setup) -> list[Table]:
    """Compile each interpolator with the default backend; one row per name, with the largest difference to the eager output."""
    channels, cells = (8, 8) if setup.tiny else (256, 50)
    rows = []
    for name in COMPILED:
        module = interpolator(name, channels).to(setup.device).eval()
        x = torch.randn(1, channels, cells, cells, device=setup.device)
        start = time.perf_counter()
        with torch.inference_mode():
            eager, compiled = module(x), torch.compile(module)(x)
        error = (compiled - eager).abs().max() / eager.abs().max()
        rows.append({"interpolator": name, "relative error": error.item(), "s": round(time.perf_counter() - start, 1)})
    return [{"caption": "Compiled interpolators: largest difference, relative to the largest output", "rows": rows}]


def time_everything(setup: Setup) -> list[Table]:
    """Latencies of interpolators, training step, detector and super-resolution networks, in interleaved rounds."""
    device, rounds = setup.device, 1 if setup.tiny else 20
    channels, maps = (8, {"P3": (8, 12)}) if setup.tiny else (256, {"P3": (100, 152), "P4": (50, 76)})
    image = torch.rand(3, *((64, 96) if setup.tiny else (800, 1216)), device=device)
    step_size = (128, 192) if setup.tiny else (320, 480)
    networks = ("srcnn",) if setup.tiny else ("srcnn", "edsr-baseline", "rcan", "d-dbpn")
    return [
        *interpolators(device, rounds, channels, maps),
        *stage1_step(device, rounds, step_size),
        mask_rcnn_table(image, channels, "mobilenetv3_small_050" if setup.tiny else "resnet50", rounds),
        time_configurations(device, rounds, 16 if setup.tiny else 128, networks),
        retrieval_table(device, rounds, 2 if setup.tiny else 64),
    ]


def retrieval_table(device: torch.device, rounds: int, batch_size: int) -> Table:
    """Latencies of embedders of images and of generators of descriptors, for a batch."""
    torch.manual_seed(0)
    calls: dict[str, Callable[[], object]] = {}
    for encoder, size in (("mobilenetv2_100", 224), ("resnet50", 224)):
        embedder = build_embedder(EmbedderConfig(encoder, input_size=size))[0].to(device).eval()
        images = torch.rand(batch_size, 3, size, size, device=device)
        calls[f"embed, {encoder} at {size}"] = partial(embedder, images)
    generators = {"paper, 4096": (DescriptorGenerator(), 4096), "residual 1024, 1280": (ResidualGenerator(1280), 1280)}
    for name, (generator, dimension) in generators.items():
        descriptors = torch.rand(batch_size, dimension, device=device)
        calls[f"super-resolve, {name}"] = partial(super_resolve_descriptors, generator.to(device).eval(), descriptors)
    times = time_interleaved({name: partial(_synchronized, call, device) for name, call in calls.items()}, rounds)
    rows = [{"operation": name, "ms (median)": ms["median"], "ms (fastest)": ms["least"]} for name, ms in times.items()]
    return {"caption": f"Image retrieval, batch {batch_size}, {rounds} interleaved rounds", "rows": rows}


def _synchronized(call: Callable[[], object], device: torch.device) -> None:
    with torch.inference_mode():
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train_on_scenes(setup: Setup) -> list[Table]:
    """Train AFI-GAN's stages and nearest interpolation for equal steps, as many as fit into the time that is left."""
    settings = afi_gan.Settings.quick()
    if setup.tiny:
        settings = replace(settings, data=replace(settings.data, num_scenes=8, num_val_scenes=4, scene_size=64))
    else:
        settings = replace(settings, data=replace(settings.data, num_workers=4))
    with tempfile.TemporaryDirectory() as folder:
        trial = scale_steps(settings, TINY_SCALE if setup.tiny else TRIAL_SCALE)
        start = time.monotonic()
        run_equal_steps(trial, Path(folder) / "trial", device=setup.device.type)
        seconds = time.monotonic() - start
        trial_steps = sum(getattr(trial, name).steps for name in STAGES)
        steps = sum(getattr(settings, name).steps for name in STAGES)
        scale = min(LONGEST_SCALE, TRAINING_SHARE * setup.seconds_left / seconds * trial_steps / steps)
        if setup.tiny:
            scale = TINY_SCALE
        elif scale < TRIAL_SCALE:
            raise TimeoutError(f"{setup.seconds_left:.0f} s are left, too few for a training.")
        scaled = trial if setup.tiny else scale_steps(settings, scale)
        result = run_equal_steps(scaled, Path(folder) / "runs", device=setup.device.type)
    return [_training_table(result, scale, scaled)]


def _training_table(result: Any, scale: float, settings: afi_gan.Settings) -> Table:
    metrics = [{"run": run.name, **_percent(run.metrics["boxes"])} for run in result.runs]
    intervals = result.comparison.intervals["boxes"]
    rows = [*metrics, {"run": "difference [95 % CI]", **{key: value.percent_text for key, value in intervals.items()}}]
    steps = ", ".join(f"{name} {getattr(settings, name).steps}" for name in STAGES)
    return {"caption": f"Built-in scenes, {scale:.1f} times the CPU's length, one seed: {steps}", "rows": rows}


def _percent(metrics: dict[str, Any]) -> Table:
    return {key: round(100 * value, 1) for key, value in metrics.items() if isinstance(value, float)}


PARTS: dict[str, Callable[[Setup], list[Table]]] = {
    "commands": check_commands,
    "compile": check_compiled,
    "speed": time_everything,
    "scenes": train_on_scenes,
}


def main() -> None:
    """Run the parts; write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"Parts to run: {', '.join(PARTS)}; default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=540, help="time limit of the whole")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a test on the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if unknown := sorted(set(args.parts) - set(PARTS)):
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU; --device cpu --tiny tests the script on the CPU")
    setup = Setup(torch.device(args.device), args.tiny, time.monotonic() + args.seconds)
    metadata = collect_metadata(setup.device, "benchmarks/gpu.sh")
    tables: list[Table] = []
    for name in args.parts or PARTS:
        tables += run_part(name, setup)
        print(write_result("gpu", tables, metadata, args.out), f"{setup.seconds_left:.0f} s left", flush=True)


def run_part(name: str, setup: Setup) -> list[Table]:
    """Return the tables of the part ``name``; of one that fails, a table with its error."""
    try:
        return PARTS[name](setup)
    except Exception:
        traceback.print_exc()
        return [{"caption": f"{name}: failed", "rows": [{"error": traceback.format_exc(limit=-1).strip()}]}]


if __name__ == "__main__":
    main()
