"""One training step of AFI-GAN's stage 1: FeatLift against the published code (estimator/AFI-GAN), with the same networks.

The published step runs G twice (once for each update), evaluates D on the real maps twice, and back-propagates the generator's loss into D.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from featlift.backbones import Backbone
from featlift.detectors import extractor, upsampled_levels
from featlift.distillation.discriminator import PatchDiscriminator
from featlift.distillation.feature_pairs import upsample_levels
from featlift.features import crop_to_match
from featlift.interpolators import interpolator
from featlift.losses import discriminator_logits, discriminator_loss, generator_adversarial_loss, pyramid_l1
from featlift.papers.afi_gan.settings import AdversarialConfig
from featlift.papers.afi_gan.training import adversarial_step
from featlift.profiling import Latency, measure_latencies
from featlift.resolution import cross_resolution, frozen_copy
from featlift.training import Learner, OptimizerConfig

Step = Callable[[Tensor], None]
STEP_LEVELS = upsampled_levels("mask-rcnn")
OPTIMIZER = OptimizerConfig("sgd", 1e-3, momentum=0.9, weight_decay=1e-4)


class GANModules(nn.Module):
    """F, G and D of stage 1.

    Args:
        backbone: timm name of F's backbone.
        channels: Number of channels C of the pyramid.
    """

    def __init__(self, backbone: str = "resnet50", channels: int = 256) -> None:
        super().__init__()
        network = extractor("mask-rcnn", Backbone(backbone), [interpolator("nearest", channels)], channels)
        self.F = frozen_copy(network)
        self.G = nn.ModuleList([interpolator("afi", channels)])
        self.D = PatchDiscriminator(channels)


def downscale(image: Tensor) -> Tensor:
    """Average-pool ``[B, 3, H, W]`` to ``[B, 3, H/2, W/2]``."""
    return nn.functional.avg_pool2d(image, 2)


def featlift_step(modules: GANModules, adversarial: AdversarialConfig) -> Step:
    """Return FeatLift's step: one forward of G and one of D on the real maps for both updates; no gradients of D in the update of G."""
    F, G, D = modules.F, modules.G, modules.D
    generator, discriminator = Learner(G, OPTIMIZER, 10**6), Learner(D, OPTIMIZER, 10**6)

    def step(image: Tensor) -> None:
        low, high = cross_resolution(F, lambda small: upsample_levels(G, STEP_LEVELS, F(small)), image, downscale)
        _, losses = adversarial_step(D, {"discriminator": discriminator}, *crop_to_match(low, high), adversarial)
        generator.step(losses)

    return step


def published_step(modules: GANModules, adversarial: AdversarialConfig) -> Step:
    """Return the step of the published code: both updates recompute everything."""
    F, G, D = modules.F, modules.G, modules.D
    generator, discriminator = OPTIMIZER.build_optimizer(G), OPTIMIZER.build_optimizer(D)

    def step(image: Tensor) -> None:
        with torch.no_grad():
            high, low = F(image), F(downscale(image))
        discriminator.zero_grad()
        fake, real = crop_to_match(upsample_levels(G, STEP_LEVELS, low), high)
        discriminator_loss(discriminator_logits(D, fake, detach=True), discriminator_logits(D, real)).backward()
        discriminator.step()
        generator.zero_grad()
        student, teacher = crop_to_match(upsample_levels(G, STEP_LEVELS, low), high)
        discriminator_logits(D, teacher)  # not used
        fake = student if adversarial.backprop_to_generator else {level: x.detach() for level, x in student.items()}
        (pyramid_l1(student, teacher) + adversarial.weight * generator_adversarial_loss(D, fake)).backward()
        generator.step()

    return step


def stage1_step(device: torch.device, rounds: int, size: tuple[int, int] = (320, 480)) -> list[dict[str, Any]]:
    """Time a step on one image in interleaved rounds; each schedule has its own copy of the same networks.

    The first two schedules have equal updates, as have the next two; the last two, with D on random patches, have equal expected updates.
    """
    modules, image = GANModules().to(device).train(), torch.rand(1, 3, *size, device=device)
    config, detached = AdversarialConfig(), AdversarialConfig(backprop_to_generator=False)
    schedules = {
        "published (adversarial gradient detached)": published_step(copy.deepcopy(modules), detached),
        "FeatLift, same updates": featlift_step(copy.deepcopy(modules), detached),
        "published, gradient of the paper": published_step(copy.deepcopy(modules), config),
        "FeatLift, gradient of the paper": featlift_step(copy.deepcopy(modules), config),
        "FeatLift, D on 2 patches per map": featlift_step(copy.deepcopy(modules), replace(config, num_patches=2)),
        "FeatLift, D on 1 patch per map": featlift_step(copy.deepcopy(modules), replace(config, num_patches=1)),
    }
    latencies = measure_latencies(
        {name: _with_gradients(step, image) for name, step in schedules.items()}, rounds, warmup=1
    )
    names = list(schedules)
    rows = [_row(name, latencies[name], latencies[names[0 if i < 2 else 2]]) for i, name in enumerate(names)]
    caption = f"R50-FPN, AFI, 256 channels, image {size[0]}x{size[1]}, batch 1, float32, {rounds} interleaved rounds"
    return [{"caption": caption, "rows": rows}]


def _with_gradients(step: Step, image: Tensor) -> Callable[[], None]:
    return lambda: torch.enable_grad()(step)(image)


def _row(name: str, latency: Latency, reference: Latency) -> dict[str, Any]:
    return {
        "schedule": name,
        "seconds (median)": round(latency.median, 3),
        "seconds (fastest)": round(latency.minimum, 3),
        "speed-up over the published order": round(reference.median / latency.median, 2),
    }
