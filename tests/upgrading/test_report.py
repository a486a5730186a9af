import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from featlift.upgrading import upgrade


def test_the_table(pyramid: nn.Module):
    lines = str(upgrade(pyramid, "deconv")).splitlines()
    assert lines[1].split() == [
        "site",
        "level",
        "stride",
        "channels",
        "old",
        "new",
        "parameters",
        "GMAC",
        "at",
        "256x256",
    ]
    # 6·6·16·16 + 16 and 3·3·16·16 + 16 parameters; per input cell (6·6 + 4·3·3)·16·16 multiply-adds
    assert lines[3].split() == ["fpn", "p4", "16", "16", "nearest", "+", "deconv", "11,552", "0.001"]
    assert lines[-1].split() == ["total", "23,104", "0.006"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_shared_ones_are_counted_once(pyramid: nn.Module):
    report = upgrade(pyramid, "afi")
    assert "shared" in str(report)
    assert report.parameters == sum(p.numel() for n, p in pyramid.named_parameters() if ".added" in n)


@pytest.mark.parametrize("name", ["afi", "deconv", "carafe", "dysample"])
def test_multiply_adds_are_those_of_a_real_run(name: str, rtdetr: nn.Module):
    def flops() -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            rtdetr(torch.zeros(1, 3, 256, 256))
        return counter.get_total_flops()

    before = flops()
    report = upgrade(rtdetr, name)
    assert report.gmac is not None
    assert report.gmac * 2e9 == pytest.approx(flops() - before)
