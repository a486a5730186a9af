"""Subprocesses of the tests: ``python workers.py MODE FOLDER …``. Forks are cheap, importing torch is not."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimizers import it; once is enough for all forks
from torch import nn
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from conftest import ToyBatches, build_learners, build_step, deterministic_models, stochastic_models
from featlift.data.batches import ResumableDataLoader
from featlift.evaluation.detection import EvaluationResult, evaluate_detector
from featlift.training import Learner, OptimizerConfig, Run, ShardedStrategy, fit, shard_module
from featlift.training import distributed as distributed_training
from featlift.training.synchronized_norm import synchronize_batch_norm

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
            ("checkpointing.py", draw.randint(80, 400)) if deaths % 2 else ("featlift", draw.randint(4000, 16000))
        )
        status = os.waitpid(child(lambda where=where, lines=lines: killed_after(folder / "killed", where, lines)), 0)[1]
        assert status in (0, signal.SIGKILL)
        deaths += status == signal.SIGKILL
    print("deaths", deaths)


class SlowDataset:
    """Twelve images of 12 px, each one box; reading one takes a moment if ``seconds`` is given."""

    classes = ("thing",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        time.sleep(self.seconds)
        image = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(index))
        labels = torch.tensor([index])
        boxes = torch.tensor([[1.0, 1.0, 9.0, 9.0]])
        return image, {"boxes": boxes, "labels": labels, "iscrowd": labels * 0, "area": labels * 0.0 + 64}

    def image_size(self, index: int) -> tuple[int, int]:
        return 12, 12


def loading(folder: Path, seconds: float = 0.0) -> None:
    """One stage whose batches two worker processes read."""
    with Run(folder, {}, seed=3, save_every=100, log_every=1) as run:
        step, learners = build_learners(12, stochastic_models, name="adamw", lr=0.01, ema_decay=0.9)
        loader = ResumableDataLoader(SlowDataset(seconds), 4, seed=2, num_workers=2)  # type: ignore[arg-type]
        fit(step, loader, 12, run, learners)
        run.write_result({"weight": learners["generator"].module.lateral.weight.sum()})


def own_group(work: Callable[[], None], output: Path) -> None:
    """Do ``work`` as a program of its own does it, with a process group, standard handlers and an output."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        work()
    except SystemExit as stop:
        print(stop.code, flush=True)
        os._exit(1)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
        os._exit(1)


def interrupted(folder: Path, name: str, number: int, to_worker: bool = False) -> dict[str, Any]:
    """Send the signal after three steps, to the group or to one worker; resume; return what was seen."""
    run, log = folder / name, folder / name / "log.jsonl"
    pid = child(lambda: own_group(lambda: loading(run, 0.02), folder / f"{name}.txt"))
    while not (log.exists() and log.read_text().count("\n") >= 3):
        time.sleep(0.01)
    workers = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    os.kill(workers[0], number) if to_worker else os.killpg(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    saved = sorted(path.name for path in (run / "checkpoint" / "train").iterdir())
    resumed = os.waitpid(child(lambda: own_group(lambda: loading(run), folder / f"{name}-again.txt")), 0)[1]
    output = [(folder / f"{name}{again}.txt").read_text() for again in ("", "-again")]
    seen = {"code": code, "workers": len(workers), "left": left, "saved": saved, "resumed": resumed, "output": output}
    return seen | {"log": log.read_text(), "result": json.loads((run / "result.json").read_text())["result"]}


def signals(folder: Path) -> None:
    """An undisturbed run, one for each signal to the whole group, and one whose worker is killed."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests were started with nohup
    os.waitpid(child(lambda: loading(folder / "undisturbed")), 0)
    kinds = {name: (int(getattr(signal, name)), False) for name in ("SIGINT", "SIGTERM", "SIGHUP")}
    cases = {name: interrupted(folder, name, *kind) for name, kind in {**kinds, "worker": (9, True)}.items()}
    (folder / "cases.json").write_text(json.dumps(cases))


def distributed(folder: Path, kind: str, port: str) -> None:
    """Two processes train for three steps; each writes its final weights."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    pids = [child(lambda rank=rank: one_of_two(folder, kind, rank)) for rank in range(2)]
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    sys.exit(any(statuses))


def launch(folder: Path) -> None:
    """What ``torchrun --standalone --nproc-per-node=2 --max-restarts=1`` does, with forked processes."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="test",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=1,
        start_method="fork",
    )
    elastic_launch(config, elastic)(folder)


def elastic(folder: Path) -> None:
    """A process of ``torchrun``, which trains for three steps; process 1 is killed once, in the third."""

    def kill_once(step: int) -> None:
        killed = folder / "killed"
        if step == 2 and os.environ["RANK"] == "1" and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    one_of_two(folder, "replicated", int(os.environ["RANK"]), kill_once)


def one_of_two(folder: Path, kind: str, rank: int, before_step: Callable[[int], None] = lambda step: None) -> None:
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
        step = build_step(pyramid, D, generator, discriminator)
        fit(
            lambda images, targets: before_step(generator.num_calls) or step(images, targets),
            ToyBatches(),
            3,
            run,
            {"generator": generator, "discriminator": discriminator},
        )
        state = {**pyramid.state_dict(prefix="generator."), **D.state_dict(prefix="discriminator.")}
        weights = {name: t.full_tensor() if kind == "sharded" else t for name, t in state.items()}
        torch.save(weights, folder / f"rank{rank}.pt")
        run.write_result({})


def buckets(folder: Path, port: str) -> None:
    """Two processes evaluate, normalize, and accumulate three steps (updates after the second and third) in several buckets."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    pids = [child(lambda rank=rank: accumulate(folder, rank)) for rank in range(2)]
    pids.append(child(lambda: alone(folder)))
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    sys.exit(any(statuses))


def alone(folder: Path) -> None:
    """What one process evaluates and normalizes."""
    torch.set_num_threads(1)
    evaluation = evaluate_detector(BrightBoxes(0), GrayImages(), batch_size=2, progress=False)  # type: ignore[arg-type]
    (folder / "evaluation.json").write_text(json.dumps(describe_evaluation(evaluation)))
    torch.save(normalize_halves(0, 1), folder / "norm.pt")


def accumulate(folder: Path, rank: int) -> None:
    """Write the order of gradients and all-reduces of the last update, and the final weights."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    distributed_training.BUCKET_MEGABYTES = 1
    with Run(folder / "run", {}) as run:
        evaluation = evaluate_detector(BrightBoxes(rank), GrayImages(), batch_size=2, progress=False)
        (folder / f"evaluation{rank}.json").write_text(json.dumps(describe_evaluation(evaluation)))
        torch.save(normalize_halves(rank, 2), folder / f"norm{rank}.pt")
        net, learner = wide_network()
        learner.to_device(run.device, "fp32")
        order: list[str] = []
        for name, parameter in net.named_parameters():
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: order.append(name))

        def reduce(_: None, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
            order.append("all-reduce")
            return allreduce_hook(None, bucket)  # type: ignore[arg-type]

        learner.strategy._reducer.register_comm_hook(None, reduce)  # type: ignore[union-attr]
        for step in range(3):
            order.clear()
            learner.step({"loss": wide_loss(net, step, rank)})
        (folder / f"order{rank}.json").write_text(json.dumps(order))
        torch.save(net.state_dict(), folder / f"wide{rank}.pt")


def wide_network() -> tuple[nn.ModuleDict, Learner]:
    """Layers of 1.4 MB, of which "rare" is only used in step 0 by process 1, and "never" not at all."""
    torch.manual_seed(0)
    names = ("first", "second", "third", "rare", "never")
    net = nn.ModuleDict({name: nn.Linear(600, 600, bias=False) for name in names})
    return net, Learner(net, OptimizerConfig(lr=0.1, accumulation_steps=2), 3)


def wide_loss(net: nn.ModuleDict, step: int, rank: int) -> torch.Tensor:
    x = torch.rand(2, 600, generator=torch.Generator().manual_seed(2 * step + rank))
    y = net["third"](net["second"](net["first"](x)))
    return ((net["rare"](y) if (step, rank) == (0, 1) else y) - 1).square().mean()


class GrayImages:
    """Seven gray images, each with two objects; ids are in falling order."""

    classes, category_ids = ("thing", "other"), (1, 2)

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Any:
        return torch.full((3, 20, 20 + index), index / 10), {"image_id": torch.tensor(70 - index)}

    def coco(self) -> Any:
        images = [{"id": 70 - i, "width": 20 + i, "height": 20} for i in range(7)]
        objects = [
            {"id": 2 * i + k, "image_id": 70 - i, "category_id": k, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}
            for i in range(7)
            for k in (1, 2)
        ]
        return {"images": images, "annotations": objects, "categories": [{"id": k, "name": f"c{k}"} for k in (1, 2)]}


class BrightBoxes(nn.Module):
    """Boxes that depend on the image, on the widest of its batch, and on a buffer that differs between processes."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(float(rank)))

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        width = max(image.shape[-1] for image in images)
        results = []
        for image in images:
            right = 11 + image.mean() * 5 + self.shift  # type: ignore[operator]
            boxes = torch.tensor([[2.0, 2.0, right, 11.0], [2.0, 2.0, 11.0, width / 2]])
            results.append({"boxes": boxes, "labels": torch.tensor([1, 2]), "scores": torch.tensor([0.5, 0.9])})
        return results


def describe_evaluation(evaluation: EvaluationResult) -> dict[str, Any]:
    images = list(evaluation.seconds_per_image)
    return {"detections": evaluation.detections, "metrics": evaluation.metrics["boxes"], "images": images}


def normalize_halves(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Output, gradients and statistics of a batch norm on this process's part of a batch of four."""
    torch.manual_seed(0)
    norm, x = nn.Sequential(nn.BatchNorm2d(3)), torch.randn(4, 3, 5, 4) * 2 + 3
    nn.init.uniform_(norm[0].weight)
    synchronize_batch_norm(norm)
    part = x[2 * rank : 2 * rank + 2] if world_size == 2 else x
    part.requires_grad_()
    output = norm(part)
    target = torch.rand(4, 3, 5, 4)
    loss = (output * (target[2 * rank : 2 * rank + 2] if world_size == 2 else target)).square().sum()
    gradients = torch.autograd.grad(loss, [part, *norm.parameters()])
    names = ("input gradient", "weight gradient", "bias gradient")
    return {"output": output.detach(), **dict(zip(names, gradients, strict=True)), **norm.state_dict()}


if __name__ == "__main__":
    mode, folder, *rest = sys.argv[1:]
    modes = {f.__name__: f for f in (killed, signals, distributed, launch, buckets)}
    modes[mode](Path(folder), *rest)
