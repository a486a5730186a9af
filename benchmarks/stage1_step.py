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
from featlift.discriminators import PatchDiscriminator
from featlift.distillation.feature_pairs import upsample_levels
from featlift.evaluation.profiling import Latency, measure_latencies
from featlift.features import crop_to_match
from featlift.interpolators import interpolator
from featlift.losses import discriminator_logits, discriminator_loss_from_maps, generator_adversarial_loss, pyramid_l1
from featlift.papers.afi_gan import AdversarialConfig, adversarial_step
from featlift.resolution import cross_resolution, frozen_copy
from featlift.training import Learner, OptimizerConfig

Step = Callable[[Tensor], None]
DESCENT = OptimizerConfig("sgd", 1e-3, momentum=0.9, weight_decay=1e-4)


class Players(nn.Module):
    """F, G and D of stage 1.

    Args:
        backbone: timm's name of F's backbone.
        channels: C of the pyramid.
    """

    def __init__(self, backbone: str = "resnet50", channels: int = 256) -> None:
        super().__init__()
        network = extractor("mask-rcnn", Backbone(backbone), [interpolator("nearest", channels)], channels)
        self.F = frozen_copy(network)
        self.G = nn.ModuleList([interpolator("afi", channels)])
        self.D = PatchDiscriminator(channels)


def half(image: Tensor) -> Tensor:
    """``[B, 3, H, W]`` → ``[B, 3, H/2, W/2]``, the mean of 2x2 pixels."""
    return nn.functional.avg_pool2d(image, 2)


def ours(players: Players, adversary: AdversarialConfig) -> Step:
    """One forward of G and one judgement of the real maps serve both turns; nothing is computed for the critic in G's."""
    F, G, D = players.F, players.G, players.D
    generator, critic = Learner(G, DESCENT, 10**6), Learner(D, DESCENT, 10**6)

    def step(image: Tensor) -> None:
        low, high = cross_resolution(F, lambda small: upsample_levels(G, F(small)), image, half)
        _, losses = adversarial_step(D, {"critic": critic}, *crop_to_match(low, high), adversary)
        generator.step(losses)

    return step


def published(players: Players, adversary: AdversarialConfig) -> Step:
    """The order of work of the published code: everything anew in each turn."""
    F, G, D = players.F, players.G, players.D
    generator, critic = DESCENT.build_optimizer(G), DESCENT.build_optimizer(D)

    def step(image: Tensor) -> None:
        with torch.no_grad():
            high, low = F(image), F(half(image))
        critic.zero_grad()
        discriminator_loss_from_maps(D, *crop_to_match(upsample_levels(G, low), high)).backward()
        critic.step()
        generator.zero_grad()
        student, teacher = crop_to_match(upsample_levels(G, low), high)
        discriminator_logits(D, teacher)  # not used
        judged = student if adversary.backprop_to_generator else {level: x.detach() for level, x in student.items()}
        (pyramid_l1(student, teacher) + adversary.weight * generator_adversarial_loss(D, judged)).backward()
        generator.step()

    return step


def stage1_step(device: torch.device, rounds: int, size: tuple[int, int] = (320, 480)) -> list[dict[str, Any]]:
    """Seconds of a step on one picture, the schedules in turns; each has its own copy of the same networks.

    The first two make the same updates, the next two as well, and the last two those on average: their critic looks at windows.
    """
    players, image = Players().to(device).train(), torch.rand(1, 3, *size, device=device)
    alive, cut = AdversarialConfig(), AdversarialConfig(backprop_to_generator=False)
    schedules = {
        "published (adversarial gradient cut)": published(copy.deepcopy(players), cut),
        "ours, same updates": ours(copy.deepcopy(players), cut),
        "published order, the paper's gradient": published(copy.deepcopy(players), alive),
        "ours, the paper's gradient": ours(copy.deepcopy(players), alive),
        "ours, the critic on 2 windows a map": ours(copy.deepcopy(players), replace(alive, num_patches=2)),
        "ours, the critic on 1 window a map": ours(copy.deepcopy(players), replace(alive, num_patches=1)),
    }
    taken = measure_latencies(
        {name: _with_gradients(step, image) for name, step in schedules.items()}, rounds, warmup=1
    )
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
        "seconds (fastest)": round(taken.minimum, 3),
        "speed-up over the published order": round(reference.median / taken.median, 2),
    }
