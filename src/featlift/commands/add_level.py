"""``featlift add-level``: add an extended level to a detector, distilled from unlabeled images; write a delta file."""

from pathlib import Path

from torch import nn

from featlift.integrations.by_name import load_network_by_name
from featlift.integrations.yolox import YOLOX_PREFIX, YOLOXDetector, load_yolox
from featlift.runs.level_training import NO_LEVEL_TRAINING, LevelTrainingOptions, train_level
from featlift.runs.upgrade_training import check_options_have_effect, upgrade_and_print, warn_about_random_weights
from featlift.training.seeds import seed_everything
from featlift.upgrading import save_delta
from featlift.upgrading.extended_level import get_small_roi_size


def add_level(
    model: str,
    images: str = "",
    level: str = "",
    transfer: str = "",
    weights: str = "none",
    training: LevelTrainingOptions = NO_LEVEL_TRAINING,
    max_size: float = 0.0,
    out: str = "extended_level.safetensors",
) -> Path:
    """Add a finer pyramid level for small objects, train it, and write a file that contains only the difference.

    The level is trained to predict, from an image, what the detector itself finds in the same image at twice the size. Training needs no
    labels and changes no other weights. Without steps the command prints the added modules and checks that the outputs are bit-identical.

    Args:
        model: Name of a torchvision detector, such as "fasterrcnn_resnet50_fpn" or "retinanet_resnet50_fpn"; "yolox:FILE", a
            published ONNX file or checkpoint of YOLOX; ultralytics:yolo11n.pt; hf:FOLDER_OR_ID of RT-DETR or D-FINE; or
            FILE.py:FUNCTION, a function that returns a detector.
        images: Folder of training images of any size (boxes are not used), or "scenes".
        level: "p2x" for Faster and Mask R-CNN (stride 2), "p3x" for one-stage detectors and DETRs (stride 4); by default the one
            that suits.
        transfer: Module that computes the level: "ftt", "espcn", … for p2x (`featlift list texture-transfers`), an interpolator that is
            corrected for p3x (`featlift list interpolators`); by default "ftt" and "nearest".
        weights: Weights of a torchvision detector: "none", "DEFAULT" (downloaded) or a file.
        training: Steps, learning rate, image size, device and seed of the training.
        max_size: Objects below this size, in pixels of the resized image, are taken from the new level; 0 is 56 for p2x, 32 for p3x.
        out: Delta file; load it with `featlift.load_delta` onto the same detector. The training log is written to ``….run``.

    Raises:
        ValueError: If the detector does not support the level, or steps are given without images, or images without steps.
    """
    check_options_have_effect(training.steps, _training_options(images, training, max_size))
    if training.steps and not images:
        raise ValueError("Training needs images: give --images FOLDER or --images scenes.")
    detector, network = _load(model, weights)
    seed_everything(training.seed)
    upgrade_and_print(detector, transfer, level or ("p2x" if hasattr(network, "roi_heads") else "p3x"), network)
    if training.steps:
        print(train_level(network, images, Path(f"{out}.run"), training, max_size or None))
        print(f"objects under {get_small_roi_size(network):g} px are now taken from the extended level")
    save_delta(network, out)
    print(out)
    return Path(out)


def _training_options(images: str, training: LevelTrainingOptions, max_size: float) -> dict[str, bool]:
    """Return whether the user has given each option that only a training uses."""
    names = ("lr", "image_size", "batch_size", "min_score")
    changed = {name: getattr(training, name) != getattr(NO_LEVEL_TRAINING, name) for name in names}
    return {"images": bool(images), "max-size": bool(max_size), **{k.replace("_", "-"): v for k, v in changed.items()}}


def _load(model: str, weights: str) -> tuple[nn.Module, nn.Module]:
    """Return the detector with torchvision's interface, and the network to upgrade."""
    if model.startswith(YOLOX_PREFIX):
        network = load_yolox(model.removeprefix(YOLOX_PREFIX))
        return YOLOXDetector(network), network
    warn_about_random_weights(model, weights)
    detector = load_network_by_name(model, weights)
    return detector, detector
