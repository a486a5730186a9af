"""Draw the screenshots of ``featlift app`` in docs/app.md: ``python docs/draw_app.py RUN FOLDER [GENERATOR [SUPER_RESOLVER]]``.

``RUN`` is a detector trained on synthetic scenes, such as that of ``featlift demo``; it is compared with itself on images of twice the
size. A search index of synthetic landmarks is made in ``FOLDER`` if it is not there. Tabs without a run are not drawn.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from torchvision.utils import save_image

from featlift.app.page import build_page, launch_page
from featlift.app.search import SearchComparison
from featlift.app.super_resolution import UpscalingComparison
from featlift.app.tabs import AppContent
from featlift.checkpoints import read_tensors, write_tensors
from featlift.data.config import build_dataset, load_data_config
from featlift.data.image_io import list_images
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.deployment.predictor import Predictor
from featlift.image_sr.degradation import BicubicDownscale

IMAGES = Path(__file__).parent / "images"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def write_at_twice_the_size(run: Path, folder: Path, size: int) -> Path:
    """Write the detector of ``run`` so that it reads images at twice their ``size``."""
    tensors, metadata = read_tensors(run / "detector.safetensors")
    model = json.loads(metadata["model"])
    model["detector_options"]["test_size"] = [2 * size, 2 * size]
    return write_tensors(folder / "at 2x" / "detector.safetensors", tensors, {**metadata, "model": json.dumps(model)})


def run_featlift(*words: object) -> None:
    """Run a command of FeatLift."""
    subprocess.run([sys.executable, "-m", "featlift", *map(str, words)], check=True)


def prepare_search(folder: Path, generator: str) -> SearchComparison:
    """Make the landmarks and the index if they are not there."""
    if not (folder / "index").exists():
        write_synthetic_landmarks(
            folder / "landmarks", num_landmarks=40, gallery_views=3, query_views=1, image_size=128
        )
        run_featlift("index", folder / "landmarks/gallery", "--out", folder / "index")
    return SearchComparison(str(folder / "index"), generator)


def click_through(tab: Page, folder: Path, query: Path) -> None:
    """Use every tab, and write its screenshot."""
    give_image(tab, "detection-input", folder / "scene.png")
    tab.locator("#threshold input[type=number]").fill("0.5")
    tab.locator("#threshold input[type=number]").press("Enter")
    tab.click("#detect")
    tab.wait_for_selector("#feature-maps img")
    take_screenshot(tab, "app_detection.jpg")
    tab.get_by_role("tab", name="Search").click()
    give_image(tab, "query", query)
    tab.click("#search")
    tab.wait_for_selector("#results-raw img")
    take_screenshot(tab, "app_search.jpg")
    if tab.get_by_role("tab", name="Super-resolution").count():
        tab.get_by_role("tab", name="Super-resolution").click()
        give_image(tab, "low-resolution", folder / "low.png")
        tab.click("#upscale")
        tab.wait_for_selector("#upscaled-network img")
        take_screenshot(tab, "app_super_resolution.jpg")


def give_image(tab: Page, element: str, path: Path) -> None:
    """Drop the image file ``path``."""
    tab.set_input_files(f"#{element} input[type=file]", str(path))
    tab.wait_for_selector(f"#{element} img")


def take_screenshot(tab: Page, name: str) -> None:
    """Write a screenshot of 960 px width as JPEG."""
    tab.wait_for_timeout(3000)
    tab.screenshot(path=str(IMAGES / "app.png"), full_page=True)
    image = Image.open(IMAGES / "app.png").convert("RGB")
    image.resize((960, round(960 * image.height / image.width)), Image.Resampling.LANCZOS).save(
        IMAGES / name, quality=80
    )
    (IMAGES / "app.png").unlink()
    print(IMAGES / name)


def main(run: Path, folder: Path, generator: str = "", super_resolver: str = "") -> None:
    """Serve the app and draw it."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = build_dataset(load_data_config(run), "val")[0][0]
    save_image(scene, folder / "scene.png")
    large = SyntheticScenes(1, (480, 480), seed=7, object_sizes=(16, 120))[0][0]
    save_image(BicubicDownscale(2)(large[None]).clamp(0, 1), folder / "low.png")
    at_2x = write_at_twice_the_size(run, folder, scene.shape[-1])
    predictors = {"detector": Predictor(run), "detector at 2x": Predictor(at_2x)}
    upscaling = UpscalingComparison(super_resolver) if super_resolver else None
    content = AppContent(predictors, prepare_search(folder, generator), upscaling, 10**8)
    page = build_page(content)
    url = launch_page(page, "127.0.0.1", 0, block=False)
    small = Image.open(list_images(folder / "landmarks" / "query")[3]).resize((32, 32), Image.Resampling.LANCZOS)
    small.save(folder / "query.png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.set_default_timeout(300_000)
        tab.goto(url)
        click_through(tab, folder, folder / "query.png")
        browser.close()
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
