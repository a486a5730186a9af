import torch
from torch import nn

from featlift.training.synchronized_norm import SynchronizedBatchNorm2d, synchronize_batch_norm


def test_one_process_normalizes_as_before():
    x, plain = torch.randn(2, 3, 4, 4), nn.Sequential(nn.BatchNorm2d(3))
    net = nn.Sequential(nn.BatchNorm2d(3))
    synchronize_batch_norm(net)
    assert type(net[0]) is SynchronizedBatchNorm2d
    assert torch.equal(net(x), plain(x))
    assert list(net.state_dict()) == list(plain.state_dict())
    assert torch.equal(net.eval()(x), plain.eval()(x))
