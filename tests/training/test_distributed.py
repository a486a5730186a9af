import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from featlift.training import Run, distributed, fit, shard_module

WORKERS = Path(__file__).parent / "workers.py"


@pytest.fixture(scope="module", params=["replicated", "sharded"])
def pair(request, tmp_path_factory):
    """The folder of two gloo processes that trained for three steps."""
    folder = tmp_path_factory.mktemp(request.param)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(WORKERS), "distributed", str(folder), request.param, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def big_batch(request):
    """The same three steps on the big batch, by one process and torch.optim alone."""
    toy = sys.modules[request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py"))).__name__]
    torch.manual_seed(0)
    pyramid, D = toy.deterministic_models()
    generator_optimizer = torch.optim.SGD(pyramid.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    discriminator_optimizer = torch.optim.SGD(D.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    losses = []
    for k in range(3):
        shares = [next(toy.ToyBatches().iter_from(k, rank, 2)) for rank in range(2)]
        made = [(torch.stack(images), pyramid(torch.stack(images), targets)) for images, targets in shares]
        discriminator = sum(toy.discriminator_loss(D, x, y) for x, y in made) / 2
        discriminator_optimizer.zero_grad()
        discriminator.backward()
        discriminator_optimizer.step()
        parts = [toy.generator_losses(D, x, y) for x, y in made]
        content, adversarial = (sum(part[name] for part in parts) / 2 for name in ("content", "adversarial"))
        generator_optimizer.zero_grad()
        (content + adversarial).backward()
        nn.utils.clip_grad_norm_(pyramid.parameters(), 0.5)
        generator_optimizer.step()
        losses.append([discriminator.item(), content.item(), adversarial.item()])
    return {**pyramid.state_dict(prefix="generator."), **D.state_dict(prefix="discriminator.")}, losses


def test_two_processes_learn_what_one_learns_from_the_big_batch(pair, big_batch):
    first, second = (torch.load(pair / f"rank{rank}.pt") for rank in range(2))
    for name, expected in big_batch[0].items():
        assert torch.equal(first[name], second[name]), f"{name} differs between the processes"
        torch.testing.assert_close(first[name], expected, msg=lambda text, name=name: f"{name}: {text}")


def test_the_log_has_the_losses_of_the_big_batch(pair, big_batch):
    lines = [json.loads(line) for line in (pair / "run" / "log.jsonl").read_text().splitlines()]
    logged = [[line[name] for name in ("discriminator", "content", "adversarial")] for line in lines]
    torch.testing.assert_close(torch.tensor(logged), torch.tensor(big_batch[1]))


def test_one_process_reads_what_two_wrote(pair, big_batch, make_deterministic_training, batches):
    step, learners = make_deterministic_training(3)
    fit(step, batches, 3, Run(pair / "run", {}), learners)
    for name, expected in big_batch[0].items():
        learner, key = name.split(".", 1)
        torch.testing.assert_close(learners[learner].module.state_dict()[key], expected)
    assert learners["discriminator"].optimizer.state_dict()["state"][0]["momentum_buffer"].abs().sum() > 0


def test_alone_nothing_is_averaged():
    values = [torch.ones(2), torch.zeros(3)]
    assert all(a is b for a, b in zip(distributed.ReplicatedStrategy().average_gradients(values), values, strict=True))
    assert distributed.all_reduce_mean([1.5, 2.0]) == [1.5, 2.0]
    assert (distributed.get_rank(), distributed.get_world_size()) == (0, 1)


def test_sharding_needs_processes():
    with pytest.raises(RuntimeError, match="start with torchrun"):
        shard_module(nn.Linear(2, 2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="PyTorch sees 0 GPUs; use 'auto' or 'cpu'"):
        distributed.init_distributed("cuda")
