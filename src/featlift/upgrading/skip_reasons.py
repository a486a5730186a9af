"""Why an interpolation is no upsampling step of a feature pyramid: what it is computed from and what becomes of it."""

from collections.abc import Mapping

from torch import nn

from featlift.interpolators import INTERPOLATORS
from featlift.interpolators.fixed import FixedInterpolator
from featlift.upgrading.tracing import InterpolateCall

MAX_IMAGE_CHANNELS = 4
"""Images and masks have at most as many channels."""

LOGITS = "logits or masks: nothing learned after it"
ONE_CHANNEL = "one channel: a mask, not features"


def skip_reason(call: InterpolateCall, modules: Mapping[str, nn.Module]) -> str:
    """Return why ``call`` is left as it is; empty if it is an upsampling step. ``modules`` are those of the network, by name."""
    if not call.is_2x:
        return "factor is not 2"
    if call.in_size == (1, 1) and not call.signature.by_scale:
        return "map of one cell"
    if any(_is_learned_interpolator(modules[name]) for name, _ in call.stack):
        return "inside a learned interpolator"
    if not call.tag.is_input:
        return "position embeddings or constants: does not depend on the image"
    if not call.tag.is_learned and call.channels <= MAX_IMAGE_CHANNELS:
        return "image or mask: nothing learned before it"
    if call.tag.is_pooled:
        return "pooled map: as many cells for every image size"
    if call.channels == 1:
        return ONE_CHANNEL
    return "" if call.feeds_learned or call.is_merged else LOGITS


def is_forced_by_neck(reason: str) -> bool:
    """Return whether a call with this reason is upgraded if its module is named as the neck and has no other steps."""
    return reason in (LOGITS, ONE_CHANNEL)


def _is_learned_interpolator(module: nn.Module) -> bool:
    return type(module) in INTERPOLATORS.values() and not isinstance(module, FixedInterpolator)
