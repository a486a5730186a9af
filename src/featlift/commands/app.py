"""``featlift app``: compare two detectors, two searches or two upscalings of an image in the browser."""

from pathlib import Path

from featlift.app.page import build_page, launch_page
from featlift.app.search import SearchComparison
from featlift.app.super_resolution import UpscalingComparison
from featlift.app.tabs import AppContent
from featlift.data.image_io import MAX_PIXELS
from featlift.deployment.predictor import Predictor


def app(
    detectors: tuple[str, ...] = (),
    index: str = "",
    generator: str = "",
    super_resolver: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
    open_browser: bool = False,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Serve a page on this machine on which dropped images are compared: boxes that appeared and vanished, feature maps, times.

    Args:
        detectors: One or two run folders or detector files.
        index: Folder of an image index (`featlift index`), for the tab "Search".
        generator: FSR-GAN run folder or generator file, for a second ranking with super-resolved queries.
        super_resolver: Run folder or file of a super-resolution network, for the tab "Super-resolution".
        host: Address to serve on; "0.0.0.0" makes the page reachable for other machines, without a password.
        port: Port; 0 takes the first free one from 7860.
        open_browser: Open the page in the browser.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        max_pixels: Maximum number of pixels of an image.

    Raises:
        ValueError: If nothing, or more than two detectors, or a generator without an index is given.
        ImportError: If gradio is missing.
    """
    if len(detectors) > 2 or not (detectors or index or super_resolver):
        raise ValueError(
            f"Give one or two detectors, --index or --super-resolver; given are {len(detectors)} detectors. "
            "Example: featlift app runs/nearest runs/afi"
        )
    if generator and not index:
        raise ValueError("--generator needs the index that it searches: --index FOLDER.")
    content = AppContent(
        {name: Predictor(model, device=device) for name, model in _name_detectors(detectors).items()},
        SearchComparison(index, generator, device) if index else None,
        UpscalingComparison(super_resolver, device) if super_resolver else None,
        max_pixels,
    )
    launch_page(build_page(content), host, port, open_browser)


def _name_detectors(detectors: tuple[str, ...]) -> dict[str, str]:
    """Detectors by the name of their folder, or by their path if the names are equal; the same path twice gets numbers."""
    names = [Path(model).parent.name if Path(model).is_file() else Path(model).name for model in detectors]
    if len(set(names)) < len(names):
        names = list(detectors)
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return dict(zip(names, detectors, strict=True))
