import pytest
import torch
from torchvision.utils import save_image

from featlift.app.page import build_page
from featlift.app.super_resolution import UpscalingComparison
from featlift.app.tabs import AppContent, read_dropped_image
from featlift.checkpoints import save
from featlift.image_sr import super_resolver


@pytest.fixture
def gradio():
    """Imported by the first test and not while tests are collected, which every process does."""
    return pytest.importorskip("gradio")


def test_only_what_is_given_has_a_tab(predictors, tmp_path, gradio):
    network = save(super_resolver("srcnn", 2), tmp_path / "network.safetensors")
    page = build_page(AppContent(predictors, None, UpscalingComparison(str(network), "cpu"), 10**6))
    assert [block.label for block in page.blocks.values() if type(block) is gradio.Tab] == [
        "Detection",
        "Super-resolution",
    ]


def test_no_button_uploads_an_image(predictors, gradio):
    """gradio's "share" button sends an image to a server."""
    page = build_page(AppContent(predictors, None, None, 10**6))
    shown = [block for block in page.blocks.values() if type(block) in (gradio.Image, gradio.Gallery)]
    assert len(shown) == 4
    assert not [block for block in shown if "share" in block.buttons and block.interactive is False]
    assert "share" not in next(block for block in shown if type(block) is gradio.Gallery).buttons


def test_what_cannot_be_read_is_said(tmp_path, gradio):
    with pytest.raises(gradio.Error, match="Drop an image first"):
        read_dropped_image(gradio, None, 100)
    save_image(torch.zeros(3, 20, 20), tmp_path / "a.png")
    assert read_dropped_image(gradio, str(tmp_path / "a.png"), 400).shape == (3, 20, 20)
    with pytest.raises(gradio.Error, match="max-pixels"):
        read_dropped_image(gradio, str(tmp_path / "a.png"), 399)
