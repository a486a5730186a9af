"""Time of a training step of two processes: gradients averaged in buckets during the backward pass, or all after it.

    python benchmarks/gradient_buckets.py [--rate 800] [--rounds 7]

The two gloo processes talk over a loopback of their own (``unshare --net``, needs root), limited by ``tc`` to ``--rate`` Mbit/s. A layer's
backward pass sleeps for ``LAYER_SECONDS``, as a host does that waits for its GPU, so that the load of the machine changes little.
Results: ``benchmarks/results/gradient_buckets.json``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from run import RESULTS, collect_metadata, write_result
from torch import nn

from featlift.training.distributed import ReplicatedStrategy

NUM_LAYERS, WIDTH, LAYER_SECONDS = 12, 1536, 0.04
LIMITED = "ip link set lo up && tc qdisc add dev lo root tbf rate {rate}mbit burst 256kb latency 400ms"


class SlowBackward(torch.autograd.Function):
    """The identity; its backward pass takes `LAYER_SECONDS`."""

    @staticmethod
    def forward(ctx, x):
        """``[B, C]`` → ``[B, C]``."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(LAYER_SECONDS)
        return gradient


def build_network() -> nn.ModuleList:
    """Layers of 9.4 MB."""
    torch.manual_seed(0)
    return nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(NUM_LAYERS))


def compute_loss(network: nn.ModuleList, rank: int) -> torch.Tensor:
    """Loss of two rows."""
    x = torch.rand(2, WIDTH, generator=torch.Generator().manual_seed(rank))
    for layer in network:
        x = SlowBackward.apply(layer(x)).relu()
    return x.square().mean()


def measure(rank: int, rounds: int, store: str) -> dict[str, float]:
    """Median seconds of a backward pass, and the largest difference of the gradients."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    network, strategy = build_network(), ReplicatedStrategy()
    strategy.prepare(network)
    parameters = list(network.parameters())
    calls = {
        "after, s": lambda loss: strategy.average_gradients(strategy.compute_gradients(loss, parameters)),
        "in buckets, s": lambda loss: strategy.compute_averaged_gradients(loss, parameters),
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*calls, "no averaging, s"]}
    gradients = {}
    for round_index in range(rounds + 1):
        for name, call in [
            *calls.items(),
            ("no averaging, s", lambda loss: strategy.compute_gradients(loss, parameters)),
        ]:
            loss = compute_loss(network, rank)
            dist.barrier()
            start = time.perf_counter()
            gradients[name] = call(loss)
            if round_index:
                seconds[name].append(time.perf_counter() - start)
    difference = max(
        (a - b).abs().max().item() for a, b in zip(gradients["after, s"], gradients["in buckets, s"], strict=True)
    )
    dist.destroy_process_group()
    return {name: statistics.median(values) for name, values in seconds.items()} | {"largest difference": difference}


def run_pair(rate: int, rounds: int) -> dict[str, float]:
    """Measure in two processes in a network of their own."""
    with tempfile.TemporaryDirectory() as folder:
        worker = f"{sys.executable} {__file__} --rounds {rounds} --store {folder}/store --rank"
        script = f"{LIMITED.format(rate=rate)} && ({worker} 1 > {folder}/1.txt & {worker} 0; wait)"
        done = subprocess.run(
            ["unshare", "--net", "bash", "-c", script],
            capture_output=True, text=True, env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"unshare or tc failed (are you root?): {done.stderr[-1000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=800, help="Mbit/s")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank is not None:
        print(json.dumps(measure(args.rank, args.rounds, args.store)))
        return
    command = f"python benchmarks/gradient_buckets.py --rate {args.rate} --rounds {args.rounds}"
    metadata = collect_metadata(torch.device("cpu"), command)
    row = {"layers": NUM_LAYERS, "MB": NUM_LAYERS * WIDTH**2 * 4 / 1e6, "Mbit/s": args.rate}
    times = run_pair(args.rate, args.rounds)
    ratio = times["in buckets, s"] / times["after, s"]
    row |= {name: round(value, 3) for name, value in times.items()} | {"ratio": round(ratio, 2)}
    caption = "Backward pass and averaging of the gradients of two gloo processes over a loopback limited by tc"
    print(write_result("gradient_buckets", [{"caption": caption, "rows": [row]}], metadata, RESULTS))


if __name__ == "__main__":
    main()
