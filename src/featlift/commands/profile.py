"""``featlift profile``: cost of each part of a detector, and of its upsampling steps with every other interpolator."""

from pathlib import Path

from featlift.deployment.latency_budget import random_image
from featlift.deployment.network_profile import format_network_table, profile_network
from featlift.deployment.profile_report import (
    ProfileReport,
    build_profile_report,
    format_interpolator_table,
    format_part_table,
    plot_profile,
)
from featlift.device import resolve_device
from featlift.integrations.by_name import has_torchvision_interface, load_network_by_name


def profile(
    model: str,
    image_size: str = "800x1216",
    device: str = "auto",
    interpolators: tuple[str, ...] = (),
    rounds: int = 5,
    plot_file: str = "profile.png",
) -> ProfileReport:
    """Profile each part of a detector, and its upsampling steps with every interpolator; print two tables and write a plot.

    Latencies are measured interleaved. For a network of another library, one table compares the whole network as it is and upgraded.

    Args:
        model: Run folder, detector file, name of a torchvision detector such as "maskrcnn_resnet50_fpn" (random weights), hf:FOLDER_OR_ID,
            ultralytics:yolo11n.yaml, torchvision:NAME, timm:NAME, or FILE.py:FUNCTION.
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
    detector = load_network_by_name(model).eval().to(device)
    if not has_torchvision_interface(detector):
        rows = profile_network(detector, image, interpolators, rounds)
        print(f"{model} on {device}, image of {image_size}\n{format_network_table(rows)}")
        return ProfileReport(rows, {})
    report = build_profile_report(detector, image, interpolators, rounds)
    height, width = detector.transform([image])[0].tensors.shape[-2:]  # type: ignore[operator]
    print(f"{model} on {device}, image of {image_size}, resized to {height}x{width}")
    print(f"{format_part_table(report)}\n\n{format_interpolator_table(report)}")
    if plot_file:
        print(plot_profile(report, Path(plot_file)))
    return report
