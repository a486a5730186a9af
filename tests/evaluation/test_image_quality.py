import numpy as np
import pytest
import torch

from featlift.evaluation.image_quality import crop_border, fsim, image_quality, psnr, psnr_y, ssim
from featlift.resolution import rgb_to_luma

piq = pytest.importorskip("piq")


def pair(height=64, width=80):
    torch.manual_seed(0)
    reference = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 10), size=(height, width), mode="bicubic").clamp(
        0, 1
    )[0]
    return (reference + 0.05 * torch.randn_like(reference)).clamp(0, 1), reference


def test_psnr_by_hand_and_by_piq():
    black, gray = torch.zeros(3, 8, 8), torch.full((3, 8, 8), 0.1)
    assert psnr(gray, black) == pytest.approx(20, abs=1e-5)
    image, reference = pair()
    assert psnr(image, reference) == pytest.approx(piq.psnr(image[None], reference[None]).item(), abs=1e-3)
    assert psnr(image, image) == float("inf")


def test_psnr_y_is_matlabs_on_the_same_bytes():
    """rgb2ycbcr as MATLAB documents it, in numpy on 0…255, peak 255."""
    image, reference = pair()
    weights = np.array([65.481, 128.553, 24.966])[:, None, None]
    ys = [(weights * x.double().numpy()).sum(0) + 16 for x in (image, reference)]
    cropped = [y[4:-4, 4:-4] for y in ys]
    expected = 10 * np.log10(255**2 / np.mean((cropped[0] - cropped[1]) ** 2))
    assert psnr_y(image, reference, border=4) == pytest.approx(expected, abs=1e-3)


def test_ssim_by_formula():
    """One window covers the whole 11x11 image: the formula of Wang et al. with Gaussian weights, by hand."""
    image, reference = (rgb_to_luma(x)[0].double().numpy() for x in pair(11, 11))
    axis = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    w = np.outer(axis, axis) / axis.sum() ** 2
    ma, mb = (w * image).sum(), (w * reference).sum()
    va, vb = (w * image**2).sum() - ma**2, (w * reference**2).sum() - mb**2
    cov = (w * image * reference).sum() - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert ssim(*pair(11, 11)) == pytest.approx(expected, abs=1e-4)


def test_fsim_is_of_luma_alone():
    image, reference = pair()
    assert fsim(reference, reference) == pytest.approx(1, abs=1e-5)
    assert fsim(image, reference) < 0.99
    assert fsim(image, reference) == pytest.approx(
        piq.fsim(image[None], reference[None], data_range=1.0, chromatic=False).item(), abs=1e-6
    )
    assert fsim(image, reference) != pytest.approx(
        piq.fsim(image[None], reference[None], data_range=1.0).item(), abs=1e-6
    )


def test_image_quality_is_the_mean_over_images():
    """The mean of the PSNRs, not the PSNR of the mean error."""
    black = torch.zeros(3, 32, 32)
    rows = [(black + 51 / 255, black), (black + 5.1 / 255, black)]
    values = image_quality(rows, border=0)
    expected = (-20 * np.log10(0.2) - 20 * np.log10(5 / 255)) / 2  # 5.1 is quantized to 5
    assert values["psnr_rgb"] == pytest.approx(expected, abs=1e-3)
    assert set(values) == {"psnr_y", "psnr_rgb", "ssim", "fsim"}


def test_wrong_sizes_and_no_images():
    with pytest.raises(ValueError, match="equal shapes"):
        psnr(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))
    with pytest.raises(ValueError, match="border"):
        crop_border(torch.zeros(3, 8, 8), 4)
    with pytest.raises(ValueError, match="No images"):
        image_quality([])
