"""The guide's size and the errors without one."""

import pytest
import torch
from torch import nn

from featlift.interpolators import interpolator
from featlift.interpolators.guide import fit_guide, needs_guide


def test_fitted_by_cropping_or_repeating_the_last_row_and_column():
    x, guide = torch.zeros(1, 2, 3, 2), torch.arange(60.0).view(1, 2, 5, 6)[..., :5]
    fitted = fit_guide(guide, x, "FADE")
    assert torch.equal(fitted[..., :5, :4], guide[..., :4])
    assert torch.equal(fitted[..., 5, :], fitted[..., 4, :])
    assert fit_guide(guide[..., :3], torch.zeros(1, 2, 1, 1), "JBU", ratio=4).shape[-2:] == (4, 4)


def test_refused_without_guide_or_with_another_size():
    x = torch.zeros(1, 2, 3, 2)
    with pytest.raises(ValueError, match=r"SAPA also reads the finer level.*guide \[B, C, 6, 4\]"):
        fit_guide(None, x, "SAPA")
    with pytest.raises(ValueError, match=r"3x2 cells cannot be cropped or padded to 6x4; at most one cell is allowed"):
        fit_guide(x, x, "SAPA")


def test_which_need_one():
    assert needs_guide(interpolator("fade", 4))
    assert not needs_guide(interpolator("afi", 4))
    assert not needs_guide(nn.Identity())
