"""``featlift app``: compare two detectors, two searches or two upscalings of an image in the browser."""

from featlift.app.detectors import name_detectors, open_detector
from featlift.app.page import build_page, launch_page
from featlift.app.search import SearchComparison
from featlift.app.super_resolution import UpscalingComparison
from featlift.app.tabs import AppContent
from featlift.data.image_io import MAX_PIXELS


def app(
    detectors: tuple[str, ...] = (),
    index: str = "",
    generator: str = "",
    super_resolver: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Serve a page on this machine on which dropped images are compared: boxes that appeared and vanished, feature maps, times.

    Args:
        detectors: One or two run folders, detector files, torchvision detectors with COCO's weights
            ("torchvision:fasterrcnn_resnet50_fpn") or FILE.py:FUNCTION, each with "+DELTA" for the upgrade in a delta file.
        index: Folder of an image index (`featlift index`), for the tab "Search".
        generator: FSR-GAN run folder or generator file, for a second ranking with super-resolved queries.
        super_resolver: Run folder or file of a super-resolution network, for the tab "Super-resolution".
        host: Address to serve on; "0.0.0.0" makes the page reachable for other machines, without a password.
        port: Port; 0 takes the first free one from 7860.
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
        {name: open_detector(model, device) for name, model in name_detectors(detectors).items()},
        SearchComparison(index, generator, device) if index else None,
        UpscalingComparison(super_resolver, device) if super_resolver else None,
        max_pixels,
    )
    launch_page(build_page(content), host, port)
