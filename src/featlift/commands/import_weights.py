"""``featlift import``: published detectors as detector files of FeatLift."""

from pathlib import Path

from featlift.conversion.detector_files import import_detector, published_detector_config


def import_published(
    weights: str,
    detector: str = "mask-rcnn",
    backbone: str = "resnet50",
    pyramid: str = "fpn",
    interpolator: str = "nearest",
    classes: tuple[str, ...] = (),
    out: str = "runs/imported",
) -> None:
    """Convert a published detector of Detectron2's model zoo, AFI-GAN, SRF-GAN or CenterMask; nothing is downloaded.

    The result is a folder that every command takes as a run, such as ``--teacher-from runs/imported``. RoI pooling, anchors, strides and
    image statistics are Detectron2's.

    Args:
        weights: File of the weights: ``.pkl``, ``.pth`` or ``.safetensors``.
        detector: Detector of the weights (`featlift list detectors`).
        backbone: "resnet50", "resnet101" or, with the heads of the papers' rows, "resnest101e" or "swin_large_patch4_window12_384".
        pyramid: "fpn", "pafpn" or, of AFI-GAN's Swin-L, "bifpn-published".
        interpolator: Interpolator of the pyramid: "nearest" in Detectron2's zoo, "afi" or "srf" in the papers' files.
        classes: Class names in the order of the labels; COCO's 80 by default.
        out: Output folder.

    Raises:
        ValueError: If the weights are of another detector, or the file contains anything but tensors.
        FileNotFoundError: If there is no such file.
    """
    report = import_detector(
        weights, published_detector_config(detector, backbone, pyramid, interpolator), Path(out), classes
    )
    print(report)
    print(out)
