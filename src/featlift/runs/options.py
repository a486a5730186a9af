"""Options of a training run, and its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.training import Run


@dataclass(frozen=True)
class RunOptions:
    """Run folder, device, precision and logging of a training run.

    Attributes:
        run: Run folder; training resumes if the folder contains an unfinished run.
        stop_after: Last stage to run: "teacher", "interpolator", "extractor" (afi-gan, srf-gan) or "target".
        seed: Random seed.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        precision: "fp32", or autocast to "bf16" or "fp16".
        save_every: Steps between checkpoints.
        log_every: Steps between log lines.
        tensorboard: Also write TensorBoard files.
    """

    run: Path = Path("runs/train")
    stop_after: str = "target"
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    save_every: int = 500
    log_every: int = 20
    tensorboard: bool = False


def open_run(settings: Any, run_options: RunOptions) -> Run:
    """Open the run folder of a training run, new or resumed."""
    return Run(
        run_options.run,
        settings,
        run_options.seed,
        run_options.device,
        run_options.precision,
        run_options.save_every,
        run_options.log_every,
        run_options.tensorboard,
    )
