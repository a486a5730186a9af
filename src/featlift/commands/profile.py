"""``featlift profile``: cost of each part of a detector, and of its upsampling steps with every other interpolator."""

from pathlib import Path

from featlift.deployment.latency_budget import random_image
from featlift.deployment.profile_report import (
    ProfileReport,
    build_profile_report,
    format_interpolator_table,
    format_part_table,
    plot_profile,
)
from featlift.detectors.by_name import load_detector_by_name
from featlift.device import resolve_device


def profile(
    model: str,
    image_size: str = "800x1216",
    device: str = "auto",
    interpolators: tuple[str, ...] = (),
    rounds: int = 5,
    plot_file: str = "profile.png",
) -> ProfileReport:
    """Profile each part of a detector, and its upsampling steps with every interpolator; print two tables and write a plot.

    Latencies are measured interleaved.

    Args:
        model: Run folder, detector file, or name of a torchvision detector, such as "maskrcnn_resnet50_fpn" (random weights).
        image_size: Image size in pixels, HEIGHTxWIDTH or the side of a square.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        interpolators: Names of the interpolators to compare; default: all.
        rounds: Number of timed runs, after two warm-up runs.
        plot_file: PNG or SVG file of the plot; empty writes none.

    Raises:
        ValueError: If the image size is malformed, an interpolator is unknown, or the detector has no upsampling steps.
    """
    device = str(resolve_device(device))
    image = random_image(image_size, device)
    detector = load_detector_by_name(model).eval().to(device)
    report = build_profile_report(detector, image, interpolators, rounds)
    height, width = detector.transform([image])[0].tensors.shape[-2:]  # type: ignore[operator]
    print(f"{model} on {device}, image of {image_size}, resized to {height}x{width}")
    print(f"{format_part_table(report)}\n\n{format_interpolator_table(report)}")
    if plot_file:
        print(plot_profile(report, Path(plot_file)))
    return report
