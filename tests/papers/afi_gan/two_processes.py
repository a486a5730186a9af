"""Stage 1 of AFI-GAN with one process and with two (gloo) on the same batches; run as ``python two_processes.py FOLDER``."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from featlift.papers import afi_gan
from featlift.papers.afi_gan.settings import AdversarialConfig
from featlift.training import Run

sys.path.insert(0, str(Path(__file__).parents[2]))
from conftest import tiny_data, tiny_settings


def stage_1(folder: Path, name: str, settings: afi_gan.Settings) -> None:
    with Run(folder / name, settings, device="cpu", log_every=1) as run:
        rank = run.rank if run.world_size > 1 else None
        G = afi_gan.train(settings, run, "interpolator")
    torch.save(G.state_dict(), folder / ("alone.pt" if rank is None else f"rank{rank}.pt"))


def both(folder: Path) -> int:
    levels = ("p2", "p3", "p4", "p5")  # p6 has one cell, too few for the batch norm of the discriminator with one image
    alone = tiny_settings(
        steps=2, adversarial=AdversarialConfig(weight=0.0, levels=levels), data=tiny_data(batch_size=2)
    )
    with Run(folder / "teacher", alone, device="cpu") as run:
        afi_gan.train(alone, run, "teacher")
    settings = replace(alone, teacher_from=str(folder / "teacher" / "teacher.safetensors"))
    stage_1(folder, "one", settings)
    children = [_child(folder, rank, settings) for rank in range(2)]
    return int(sum(os.waitpid(child, 0)[1] for child in children) > 0)


def _child(folder: Path, rank: int, settings: afi_gan.Settings) -> int:
    child = os.fork()
    if child == 0:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        stage_1(folder, "two", settings)
        os._exit(0)
    return child


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(both(Path(sys.argv[1])))
