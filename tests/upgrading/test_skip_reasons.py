import pytest
import torch
from torch import nn

from featlift.interpolators.afi import AFI
from featlift.upgrading.dataflow import DataflowTag
from featlift.upgrading.interpolate_call import CallSignature
from featlift.upgrading.skip_reasons import is_forced_by_neck, skip_reason
from featlift.upgrading.tracing import InterpolateCall

FEATURES = DataflowTag(is_input=True, is_learned=True)
MODULES = {"": nn.Module(), "head": nn.Conv2d(1, 1, 1)}


def call(tag=FEATURES, channels=8, sizes=((4, 5), (8, 10)), by_scale=False, uses=(True, False)):
    signature = CallSignature("nearest", None, by_scale, channels)
    return InterpolateCall((("", 0), ("head", 1)), signature, *sizes, torch.empty(0), tag, *uses)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (call(), ""),
        (call(uses=(False, True)), ""),
        (call(sizes=((4, 5), (7, 11))), ""),
        (call(sizes=((4, 5), (8, 12))), "factor is not 2"),
        (call(sizes=((1, 1), (2, 2))), "map of one cell"),
        (call(sizes=((1, 1), (2, 2)), by_scale=True), ""),
        (call(DataflowTag(is_parameter=True)), "position embeddings or constants: does not depend on the image"),
        (call(DataflowTag(is_input=True), channels=3), "image or mask: nothing learned before it"),
        (call(DataflowTag(is_input=True)), ""),  # a feature map that the network is given
        (call(DataflowTag(True, False, True, True)), "pooled map: as many cells for every image size"),
        (call(channels=1), "one channel: a mask, not features"),
        (call(uses=(False, False)), "logits or masks: nothing learned after it"),
    ],
)
def test_the_reason_is_the_use(case, reason):
    assert skip_reason(case, MODULES) == reason


def test_the_shortcut_of_a_learned_interpolator_is_left():
    modules = {**MODULES, "head": AFI(8, num_blocks=1)}
    assert skip_reason(call(), modules) == "inside a learned interpolator"


def test_naming_the_neck_overrides_guesses_only():
    assert is_forced_by_neck(skip_reason(call(uses=(False, False)), MODULES))
    assert not is_forced_by_neck("factor is not 2")
