import json
import socket
import sys
from pathlib import Path

import pytest
import torch
from tests.forked_scripts import run_script
from torch import nn

from featlift.training import Run, distributed, fit, shard_module

WORKERS = Path(__file__).parent / "workers.py"


@pytest.fixture(scope="module", params=["replicated", "sharded"])
def pair(request, tmp_path_factory):
    """The folder of two gloo processes that trained for three steps."""
    folder = tmp_path_factory.mktemp(request.param)
    run_workers("distributed", folder, request.param)
    return folder


def run_workers(mode: str, folder: Path, *words: str) -> None:
    """Run ``workers.py`` with a free port as the last word."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = run_script(WORKERS, mode, folder, *words, port)
    assert done.returncode == 0, done.stdout + done.stderr


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


@pytest.mark.slow
def test_torchrun_restarts_a_killed_process_and_the_result_is_the_same(big_batch, tmp_path):
    done = run_script(WORKERS, "launch", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "killed").exists()
    assert "train resumes at step 2 of 3" in done.stdout
    for rank in range(2):
        state = torch.load(tmp_path / f"rank{rank}.pt")
        for name, expected in big_batch[0].items():
            torch.testing.assert_close(state[name], expected)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]


@pytest.fixture(scope="module")
def buckets(tmp_path_factory):
    """The folder of two processes that accumulated gradients of layers larger than a bucket."""
    folder = tmp_path_factory.mktemp("buckets")
    run_workers("buckets", folder)
    return folder


def test_gradients_are_reduced_while_the_backward_pass_runs(buckets):
    for rank in range(2):
        order = json.loads((buckets / f"order{rank}.json").read_text())
        assert order.count("all-reduce") == 5
        last_layer = order.index("third.weight")
        assert "all-reduce" in order[last_layer : order.index("first.weight")], order
        assert {"rare.weight", "never.weight"}.isdisjoint(order)


def test_accumulated_gradients_of_two_processes_are_the_mean_of_all(buckets):
    torch.manual_seed(0)
    names = ("first", "second", "third", "rare", "never")
    net = nn.ModuleDict({name: nn.Linear(600, 600, bias=False) for name in names})
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    for steps in ((0, 1), (2,)):
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        for step in steps:
            for rank in range(2):
                x = torch.rand(2, 600, generator=torch.Generator().manual_seed(2 * step + rank))
                y = net["third"](net["second"](net["first"](x)))
                y = net["rare"](y) if (step, rank) == (0, 1) else y
                ((y - 1).square().mean() / 2 / len(steps)).backward()
        optimizer.step()
    for rank in range(2):
        for name, expected in net.state_dict().items():
            torch.testing.assert_close(torch.load(buckets / f"wide{rank}.pt")[name], expected)


def test_two_processes_evaluate_like_one(buckets):
    expected = json.loads((buckets / "evaluation.json").read_text())
    assert 0.1 < expected["metrics"]["ap"] < 0.9
    assert expected["images"] == list(range(70, 63, -1))
    for rank in range(2):
        assert json.loads((buckets / f"evaluation{rank}.json").read_text()) == expected


def test_two_processes_normalize_like_one(buckets):
    expected = torch.load(buckets / "norm.pt")
    halves = [torch.load(buckets / f"norm{rank}.pt") for rank in range(2)]
    for name in ("output", "input gradient"):
        torch.testing.assert_close(torch.cat([half[name] for half in halves]), expected[name])
    for name in ("weight gradient", "bias gradient"):
        torch.testing.assert_close(halves[0][name] + halves[1][name], expected[name])
    for half in halves:
        for name in ("0.running_mean", "0.running_var", "0.num_batches_tracked"):
            torch.testing.assert_close(half[name], expected[name])


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
