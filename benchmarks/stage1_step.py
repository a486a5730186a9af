"""One step of AFI-GAN's stage 1: ours beside the order of work of the published code (estimator/AFI-GAN), with the same networks.

The published step runs G twice (once for each turn), judges the real maps twice, and back-propagates the generator's loss into the critic.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from featlift.backbones import Backbone
from featlift.detectors import extractor
from featlift.discriminators import PatchCritic
from featlift.distillation.feature_pairs import doubled
from featlift.evaluation.profiling import Latency, latencies
from featlift.features import match
from featlift.interpolators import interpolator
from featlift.losses import content, fool, judge, tell_apart
from featlift.papers.afi_gan import Adversary, play
from featlift.resolution import cross_resolution, frozen
from featlift.training import Descent, Learner

Step = Callable[[Tensor], None]
DESCENT = Descent("sgd", 1e-3, momentum=0.9, weight_decay=1e-4)


class Players(nn.Module):
    """F, G and D of stage 1.

    Args:
        backbone: timm's name of F's backbone.
        channels: C of the pyramid.
    """

    def __init__(self, backbone: str = "resnet50", channels: int = 256) -> None:
        super().__init__()
        network = extractor("mask-rcnn", Backbone(backbone), [interpolator("nearest", channels)], channels)
        self.F = frozen(network)
        self.G = nn.ModuleList([interpolator("afi", channels)])
        self.D = PatchCritic(channels)


def half(image: Tensor) -> Tensor:
    """``[B, 3, H, W]`` → ``[B, 3, H/2, W/2]``, the mean of 2x2 pixels."""
    return nn.functional.avg_pool2d(image, 2)


def ours(players: Players, adversary: Adversary) -> Step:
    """One forward of G and one judgement of the real maps serve both turns; nothing is computed for the critic in G's."""
    F, G, D = players.F, players.G, players.D
    generator, critic = Learner(G, DESCENT, 10**6), Learner(D, DESCENT, 10**6)

    def step(image: Tensor) -> None:
        low, high = cross_resolution(F, lambda small: doubled(G, F(small)), image, half)
        _, losses = play(D, {"critic": critic}, *match(low, high), adversary)
        generator.descend(losses)

    return step


def published(players: Players, adversary: Adversary) -> Step:
    """The order of work of the published code: everything anew in each turn."""
    F, G, D = players.F, players.G, players.D
    generator, critic = DESCENT.optimiser_of(G), DESCENT.optimiser_of(D)

    def step(image: Tensor) -> None:
        with torch.no_grad():
            high, low = F(image), F(half(image))
        critic.zero_grad()
        tell_apart(D, *match(doubled(G, low), high)).backward()
        critic.step()
        generator.zero_grad()
        student, teacher = match(doubled(G, low), high)
        judge(D, teacher)  # not used
        judged = student if adversary.alive else {level: x.detach() for level, x in student.items()}
        (content(student, teacher) + adversary.weight * fool(D, judged)).backward()
        generator.step()

    return step


def stage1_step(device: torch.device, rounds: int, size: tuple[int, int] = (320, 480)) -> list[dict[str, Any]]:
    """Seconds of a step on one picture, the schedules in turns; each has its own copy of the same networks.

    The first two make the same updates, the next two as well, and the last two those on average: their critic looks at windows.
    """
    players, image = Players().to(device).train(), torch.rand(1, 3, *size, device=device)
    alive, cut = Adversary(), Adversary(alive=False)
    schedules = {
        "published (adversarial gradient cut)": published(copy.deepcopy(players), cut),
        "ours, same updates": ours(copy.deepcopy(players), cut),
        "published order, the paper's gradient": published(copy.deepcopy(players), alive),
        "ours, the paper's gradient": ours(copy.deepcopy(players), alive),
        "ours, the critic on 2 windows a map": ours(copy.deepcopy(players), replace(alive, windows=2)),
        "ours, the critic on 1 window a map": ours(copy.deepcopy(players), replace(alive, windows=1)),
    }
    taken = latencies({name: _with_gradients(step, image) for name, step in schedules.items()}, rounds, warmup=1)
    names = list(schedules)
    rows = [_row(name, taken[name], taken[names[0 if i < 2 else 2]]) for i, name in enumerate(names)]
    caption = f"R50-FPN, AFI, 256 channels, picture {size[0]}x{size[1]}, batch 1, float32, {rounds} rounds in turns"
    return [{"caption": caption, "rows": rows}]


def _with_gradients(step: Step, image: Tensor) -> Callable[[], None]:
    return lambda: torch.enable_grad()(step)(image)


def _row(name: str, taken: Latency, reference: Latency) -> dict[str, Any]:
    return {
        "schedule": name,
        "seconds (median)": round(taken.median, 3),
        "seconds (fastest)": round(taken.fastest, 3),
        "speed-up over the published order": round(reference.median / taken.median, 2),
    }
