"""The app as a user clicks through it, in headless Chromium."""

import shutil

import pytest
import torch
from torchvision.utils import save_image

from featlift.app.page import build_page, import_gradio, launch_page
from featlift.app.search import SearchComparison
from featlift.app.super_resolution import UpscalingComparison
from featlift.app.tabs import AppContent
from featlift.checkpoints import save
from featlift.commands.search import index
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.image_sr import super_resolver
from featlift.retrieval.embedders import EmbedderConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(autouse=True)
def _needs_gradio():
    """Imported by the first test and not while tests are collected, which every process does."""
    pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    write_synthetic_landmarks(folder, num_landmarks=2, gallery_views=2, query_views=1, image_size=48)
    index(str(folder / "gallery"), str(folder / "index"), EmbedderConfig("gist", input_size=64))
    save(super_resolver("srcnn", 2), folder / "network.safetensors")
    save_image(torch.full((3, 80, 96), 0.5), folder / "scene.png")
    return folder


@pytest.fixture
def url(files, predictors):
    content = AppContent(
        predictors,
        SearchComparison(str(files / "index"), device="cpu"),
        UpscalingComparison(str(files / "network.safetensors"), "cpu"),
        10**6,
    )
    page = build_page(content)
    yield launch_page(page, "127.0.0.1", 0, block=False)
    page.close()


@pytest.fixture
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.slow
def test_clicking_through_all_tabs(url, browser, files):
    tab, requests = browser.new_page(), []
    tab.set_default_timeout(120_000)
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(url)
    _detect(tab, files)
    tab.get_by_role("tab", name="Search").click()
    _give_image(tab, "query", next((files / "query").rglob("*.png")))
    tab.click("#search")
    tab.wait_for_selector("#results-raw img")
    assert tab.locator("#results-raw img").count() == 4
    assert "raw" in tab.inner_text("#search-table")
    tab.get_by_role("tab", name="Super-resolution").click()
    _give_image(tab, "low-resolution", files / "scene.png")
    tab.click("#upscale")
    for name in ("bicubic", "network"):
        tab.wait_for_selector(f"#upscaled-{name} img")
        tab.wait_for_function(f"document.querySelector('#upscaled-{name} img').naturalWidth == 192")
    assert "network" in tab.inner_text("#upscaling-table")
    assert [address for address in requests if not address.startswith((url, "data:", "blob:"))] == []


def _give_image(tab, element, path):
    tab.set_input_files(f"#{element} input[type=file]", str(path))
    tab.wait_for_selector(f"#{element} img")


def _detect(tab, files):
    tab.click("#detect")
    tab.wait_for_selector("text=Drop an image first.")
    _give_image(tab, "detection-input", files / "scene.png")
    tab.click("#detect")
    tab.wait_for_selector("#detections-1 img")
    rows = tab.locator("#detection-table tbody tr")
    assert [rows.nth(i).inner_text().split()[:3] for i in range(2)] == [["nearest", "2", "1"], ["afi", "1", "0"]]
    assert tab.locator("#feature-maps img").count() == 4
    assert "p3: afi, 10 x 12 cells" in tab.inner_text("#feature-maps")
    tab.locator("#threshold input[type=number]").fill("0.1")
    tab.locator("#threshold input[type=number]").press("Enter")
    tab.locator("#threshold input[type=range]").focus()
    tab.keyboard.press("ArrowLeft")
    counts = "[...document.querySelectorAll('#detection-table tbody tr')].map(row => row.innerText.split(/\\s+/).slice(0, 3).join(' '))"
    tab.wait_for_function(f"{counts}.join(', ') == 'nearest 3 2, afi 2 1'")


def test_gradio_sends_no_statistics(monkeypatch):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    assert not import_gradio().analytics.analytics_enabled()


def test_an_old_gradio_is_refused(monkeypatch):
    import gradio

    monkeypatch.setattr(gradio, "__version__", "5.49.1")
    with pytest.raises(ImportError, match=r"gradio 6, not 5.49.1.*featlift\[app\]"):
        import_gradio()
