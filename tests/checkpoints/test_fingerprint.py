"""Fingerprints: equal for equal weights and settings, different for any difference."""

import torch
from torch import nn

from featlift.checkpoints.fingerprint import module_fingerprint, tensors_fingerprint


def test_names_types_shapes_values_and_context_count():
    x = torch.arange(4.0)
    variants = [
        {"a": x},
        {"b": x},
        {"a": x.bfloat16()},
        {"a": x.view(2, 2)},
        {"a": x + 1e-6},
        {"a": x, "b": torch.tensor(3)},
    ]
    fingerprints = {tensors_fingerprint(variant) for variant in variants} | {tensors_fingerprint({"a": x}, "context")}
    assert len(fingerprints) == len(variants) + 1


def test_order_and_identity_do_not_count():
    x = torch.arange(4.0)
    assert tensors_fingerprint({"a": x, "b": x + 1}) == tensors_fingerprint({"b": x + 1, "a": x.clone()})


def make_module(**options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, **options), nn.BatchNorm2d(4))


def test_layer_options_and_settings_of_a_module_count():
    original, other = make_module(), make_module(padding_mode="reflect")
    assert all(torch.equal(a, b) for a, b in zip(original.parameters(), other.parameters(), strict=True))
    fingerprints = [module_fingerprint(make_module()), module_fingerprint(other), module_fingerprint(original, 3)]
    assert len(set(fingerprints)) == 3
    assert module_fingerprint(original) == fingerprints[0]
    assert len(fingerprints[0]) == 16


def test_buffers_that_are_not_stored_count():
    module = make_module()
    module.register_buffer("mean", torch.zeros(3), persistent=False)
    before = module_fingerprint(module)
    module.mean += 1
    assert module_fingerprint(module) != before
