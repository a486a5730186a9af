"""A level that shares the finest head: without effect until enabled, removable, copyable, of any size."""

import copy
import pickle
import threading

import pytest
import torch

from featlift.upgrading import added_parameters, downgrade, enable_level, level_distillation_loss, upgrade

IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_nothing_changes_until_it_is_enabled_and_nothing_is_left_behind(yolox):
    names, kinds, before = list(yolox.state_dict()), [type(m) for m in yolox.modules()], yolox(IMAGE)
    report = upgrade(yolox, level="p3x", width=8)
    assert torch.equal(yolox(IMAGE), before)
    assert isinstance(yolox, kinds[0])
    assert report.parameters == sum(p.numel() for p in added_parameters(yolox).values())
    assert all(name.startswith("added_level.") for name in added_parameters(yolox))
    enable_level(yolox, 1000)
    assert yolox(IMAGE).shape[1] == before.shape[1] + 16 * 24
    enable_level(yolox, 0)
    assert torch.equal(yolox(IMAGE), before)
    downgrade(yolox)
    assert list(yolox.state_dict()) == names
    assert [type(m) for m in yolox.modules()] == kinds
    assert torch.equal(yolox(IMAGE), before)
    assert not yolox.backbone._forward_pre_hooks


@torch.no_grad()
def test_copies_and_pickles_keep_the_level(yolox):
    upgrade(yolox, level="p3x", width=8)
    enable_level(yolox)
    expected = yolox(IMAGE)
    for other in (copy.deepcopy(yolox), pickle.loads(pickle.dumps(yolox))):
        assert torch.equal(other(IMAGE), expected)
        other.added_level.output_layer.bias.add_(1)
        assert not torch.equal(other(IMAGE), expected)
    assert torch.equal(yolox(IMAGE), expected)


def test_in_training_mode_the_plain_network_runs(yolox):
    upgrade(yolox, level="p3x", width=8)
    enable_level(yolox)
    assert yolox.train()(IMAGE).shape[1] == 8 * 12 + 4 * 6 + 2 * 3


@torch.no_grad()
def test_threads_do_not_see_each_others_maps(yolox):
    upgrade(yolox, level="p3x", width=8)
    enable_level(yolox)
    images = torch.rand(8, 1, 3, 64, 64)
    expected, results = [yolox(image) for image in images], {}

    def run(index):
        with torch.no_grad():
            results[index] = all(torch.equal(yolox(images[index]), expected[index]) for _ in range(5))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(images))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert results == dict.fromkeys(range(len(images)), True)


def test_the_loss_needs_evaluation_mode_and_a_level(yolox):
    with pytest.raises(ValueError, match=r"'p3x' for one-stage|level='p3x'"):
        level_distillation_loss(yolox, IMAGE)
    upgrade(yolox, level="p3x", width=8)
    with pytest.raises(ValueError, match=r"model\.eval"):
        level_distillation_loss(yolox.train(), IMAGE)
