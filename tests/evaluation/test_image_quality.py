import numpy as np
import pytest
import torch

from featlift.evaluation.image_quality import crop_border, fsim, image_quality, psnr, psnr_y, rgb_to_luma, ssim

piq = pytest.importorskip("piq")


def pair(height=64, width=80):
    torch.manual_seed(0)
    original = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 10), size=(height, width), mode="bicubic").clamp(
        0, 1
    )[0]
    return (original + 0.05 * torch.randn_like(original)).clamp(0, 1), original


def test_psnr_by_hand_and_by_piq():
    black, gray = torch.zeros(3, 8, 8), torch.full((3, 8, 8), 0.1)
    assert psnr(gray, black) == pytest.approx(20, abs=1e-5)
    image, original = pair()
    assert psnr(image, original) == pytest.approx(piq.psnr(image[None], original[None]).item(), abs=1e-3)
    assert psnr(image, image) == float("inf")


def test_psnr_y_is_matlabs_on_the_same_bytes():
    """rgb2ycbcr as MATLAB documents it, in numpy on 0…255, peak 255."""
    image, original = pair()
    weights = np.array([65.481, 128.553, 24.966])[:, None, None]
    ys = [(weights * x.double().numpy()).sum(0) + 16 for x in (image, original)]
    inside = [y[4:-4, 4:-4] for y in ys]
    expected = 10 * np.log10(255**2 / np.mean((inside[0] - inside[1]) ** 2))
    assert psnr_y(image, original, border=4) == pytest.approx(expected, abs=1e-3)


def test_luma_of_white():
    assert rgb_to_luma(torch.ones(3, 1, 1)).item() == pytest.approx(235 / 255, abs=1e-6)


def test_ssim_by_formula():
    """One window covers the whole 11x11 picture: the formula of Wang et al. with Gaussian weights, by hand."""
    image, original = (rgb_to_luma(x)[0].double().numpy() for x in pair(11, 11))
    axis = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    w = np.outer(axis, axis) / axis.sum() ** 2
    ma, mb = (w * image).sum(), (w * original).sum()
    va, vb = (w * image**2).sum() - ma**2, (w * original**2).sum() - mb**2
    cov = (w * image * original).sum() - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert ssim(*pair(11, 11)) == pytest.approx(expected, abs=1e-4)


def test_fsim_is_of_luma_alone():
    image, original = pair()
    assert fsim(original, original) == pytest.approx(1, abs=1e-5)
    assert fsim(image, original) < 0.99
    assert fsim(image, original) == pytest.approx(
        piq.fsim(image[None], original[None], data_range=1.0, chromatic=False).item(), abs=1e-6
    )
    assert fsim(image, original) != pytest.approx(
        piq.fsim(image[None], original[None], data_range=1.0).item(), abs=1e-6
    )


def test_image_quality_is_the_mean_over_pictures():
    """Of their decibels, not the decibels of their mean error."""
    black = torch.zeros(3, 32, 32)
    rows = [(black + 51 / 255, black), (black + 5.1 / 255, black)]
    got = image_quality(rows, border=0)
    expected = (-20 * np.log10(0.2) - 20 * np.log10(5 / 255)) / 2  # 5.1 is stored as 5
    assert got["psnr_rgb"] == pytest.approx(expected, abs=1e-3)
    assert set(got) == {"psnr_y", "psnr_rgb", "ssim", "fsim"}


def test_wrong_sizes_and_no_pictures():
    with pytest.raises(ValueError, match="one size"):
        psnr(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))
    with pytest.raises(ValueError, match="border"):
        crop_border(torch.zeros(3, 8, 8), 4)
    with pytest.raises(ValueError, match="No pictures"):
        image_quality([])
