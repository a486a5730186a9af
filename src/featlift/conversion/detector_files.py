"""Published detectors of Detectron2's layout as detector files of FeatLift: teachers, starting points, detectors to upgrade."""

from pathlib import Path

from featlift.conversion.convert import import_weights
from featlift.conversion.rules import ImportReport
from featlift.detectors.by_name import list_coco_labels
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import CONV_HEADS, DetectorConfig, build_detector

RCNN_DETECTORS = ("faster-rcnn", "mask-rcnn", "cascade-rcnn", "cascade-mask-rcnn")


def published_detector_config(
    detector: str, backbone: str = "resnet50", pyramid: str = "fpn", interpolator: str = "nearest"
) -> DetectorConfig:
    """Return the configuration of a published detector: Detectron2's backbone, RoI pooling and anchors; of ResNeSt and Swin rows also the
    heads.
    """
    is_resnest, is_swin = backbone.startswith("resnest"), backbone.startswith("swin_")
    options = {"test_size": [800, 1333], **({"aligned": True} if detector in RCNN_DETECTORS else {})}
    if is_swin:
        options["anchor_scale"] = 4.0  # 32 … 512 px on p3 … p7
    return DetectorConfig(
        detector=detector,
        backbone=backbone,
        backbone_weights="random",
        backbone_layout="detectron2",
        norm="batch" if is_resnest else "frozen",
        pyramid=pyramid,
        pyramid_norm="sync" if is_resnest else "none",
        interpolator=interpolator,
        frozen_stages=0 if is_swin else 2,
        detector_options={**options, **(CONV_HEADS if is_resnest or is_swin else {})},
    )


def import_detector(weights: str, config: DetectorConfig, out: Path, classes: tuple[str, ...] = ()) -> ImportReport:
    """Convert the published file ``weights`` to ``detector.safetensors`` in the folder ``out``; return the report of all keys.

    Args:
        weights: ``.pkl``, ``.pth`` or ``.safetensors`` of Detectron2, AFI-GAN, SRF-GAN or CenterMask.
        config: Configuration, see :func:`published_detector_config`.
        out: Output folder.
        classes: Class names in the order of the published labels; empty for COCO's 80, which keep their category ids.

    Raises:
        ValueError: If the weights are of another detector, or the file was rejected; nothing is written.
        FileNotFoundError: If there is no such file.
    """
    coco = list(enumerate(list_coco_labels("maskrcnn_resnet50_fpn")))
    ids, names = zip(*((k, name) for k, name in coco if name not in ("__background__", "N/A")), strict=True)
    network = build_detector(config, len(classes or names))
    report = import_weights(network, weights)
    out.mkdir(parents=True, exist_ok=True)
    save_detector(network, config, classes or names, out, category_ids=None if classes else ids)
    return report
