"""Interpolators of an extractor with other levels than the target's."""

import torch

from featlift.detectors import upsampled_levels
from featlift.detectors.checkpoint import INTERPOLATOR_PREFIX
from featlift.papers.afi_gan.reused_tensors import renumber_interpolators, select_prefix


def test_each_step_takes_the_interpolator_of_its_level(model):
    target, extractor = model(detector="retinanet"), model(detector="faster-rcnn")
    levels = upsampled_levels(extractor.detector, extractor.pyramid)
    weights = {f"{INTERPOLATOR_PREFIX}{number}.conv.weight": torch.tensor(number) for number in range(len(levels))}
    renumbered = renumber_interpolators(weights | {"head.weight": torch.tensor(9)}, target, extractor)
    own = upsampled_levels(target.detector, target.pyramid)
    assert len(own) < len(levels)
    assert renumbered.pop("head.weight").item() == 9
    actual = {own[int(name[len(INTERPOLATOR_PREFIX)])]: levels[value.item()] for name, value in renumbered.items()}
    assert actual == {level: level for level in own}


def test_equal_levels_and_a_shared_interpolator_stay(model):
    shared = {f"{INTERPOLATOR_PREFIX}0.weight": torch.tensor(1)}
    assert renumber_interpolators(shared, model(detector="retinanet"), model()) is shared
    several = shared | {f"{INTERPOLATOR_PREFIX}1.weight": torch.tensor(2)}
    assert renumber_interpolators(several, model(), model()) is several


def test_tensors_are_selected_by_prefix():
    assert select_prefix({"a.b": torch.tensor(1), "ab": torch.tensor(2)}, "a.").keys() == {"a.b"}
