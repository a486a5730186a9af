"""Subprocesses of the tests: ``python workers.py killed|distributed FOLDER …``. Forks are cheap, importing torch is not."""

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimizers import it; once is enough for all forks

from conftest import ToyBatches, build_learners, build_step, deterministic_models, stochastic_models
from featlift.training import Learner, OptimizerConfig, Run, ShardedStrategy, fit, shard_module

STEPS = 24


def child(work: Callable[[], None]) -> int:
    """Fork, do ``work`` there; returns the process id."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def two_stages(folder: Path) -> None:
    """A run of two stages; the second starts from new weights."""
    with Run(folder, {"steps": STEPS}, seed=3, save_every=4, log_every=3) as run:
        for stage in ("first", "second"):
            step, learners = build_learners(
                STEPS, stochastic_models, name="adamw", lr=0.01, accumulation_steps=3, ema_decay=0.9
            )
            fit(step, ToyBatches(), STEPS, run, learners, stage)
        run.write_result({"weight": learners["generator"].module.lateral.weight.sum()})


def killed_after(folder: Path, where: str, lines: int) -> None:
    """The run, killed without warning after it has executed so many lines of the files with ``where`` in their path."""
    left = lines

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal left
        if where not in frame.f_code.co_filename:
            return None
        left -= event == "line"
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    two_stages(folder)


def killed(folder: Path) -> None:
    """One run unbroken; one that dies at random lines, of all code and of the code that saves, until it is through."""
    assert os.waitpid(child(lambda: two_stages(folder / "uninterrupted")), 0)[1] == 0
    draw, deaths = random.Random(5), 0
    status = signal.SIGKILL
    while status:
        where, lines = (
            ("checkpointing.py", draw.randint(20, 90)) if deaths % 2 else ("featlift", draw.randint(500, 5000))
        )
        status = os.waitpid(child(lambda where=where, lines=lines: killed_after(folder / "killed", where, lines)), 0)[1]
        assert status in (0, signal.SIGKILL)
        deaths += status == signal.SIGKILL
    print("deaths", deaths)


def distributed(folder: Path, kind: str, port: str) -> None:
    """Two processes train for three steps; each writes its final weights."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    pids = [child(lambda rank=rank: one_of_two(folder, kind, rank)) for rank in range(2)]
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    sys.exit(any(statuses))


def one_of_two(folder: Path, kind: str, rank: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    with Run(folder / "run", {}, save_every=2, log_every=1) as run:
        torch.manual_seed(rank)  # different weights on purpose: those of rank 0 are broadcast
        pyramid, D = deterministic_models(everywhere=kind == "sharded")
        strategy = ShardedStrategy() if kind == "sharded" else None
        for module in (pyramid, D) if kind == "sharded" else ():
            shard_module(module)
        generator = Learner(pyramid, OptimizerConfig(lr=0.1, max_grad_norm=0.5), 3, strategy)
        discriminator = Learner(D, OptimizerConfig(lr=0.1), 3, strategy)
        fit(
            build_step(pyramid, D, generator, discriminator),
            ToyBatches(),
            3,
            run,
            {"generator": generator, "discriminator": discriminator},
        )
        state = {**pyramid.state_dict(prefix="generator."), **D.state_dict(prefix="discriminator.")}
        weights = {name: t.full_tensor() if kind == "sharded" else t for name, t in state.items()}
        torch.save(weights, folder / f"rank{rank}.pt")
        run.write_result({})


if __name__ == "__main__":
    mode, folder, *rest = sys.argv[1:]
    {"killed": killed, "distributed": distributed}[mode](Path(folder), *rest)
