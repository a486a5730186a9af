"""``featlift add-level``: add EFPN's extended level to a torchvision detector, distilled from unlabeled images; write a delta file."""

from pathlib import Path

from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.integrations.by_name import load_network_by_name
from featlift.runs.level_training import NO_LEVEL_TRAINING, LevelTrainingOptions, distill_level
from featlift.runs.upgrade_training import upgrade_and_print, warn_about_random_weights
from featlift.upgrading import enable_level, save_delta


def add_level(
    model: str,
    images: str = "",
    transfer: str = "ftt",
    weights: str = "none",
    training: LevelTrainingOptions = NO_LEVEL_TRAINING,
    small_roi_size: float = 56.0,
    out: str = "extended_level.safetensors",
) -> Path:
    """Add a pyramid level of stride 2 for small objects, train it, and write a file that contains only the difference.

    The level is trained to predict, from an image, the detector's finest level of the same image at twice the size. Training needs no
    labels and changes no other weights. Without steps the command prints the added modules and checks that the outputs are bit-identical.

    Args:
        model: Faster or Mask R-CNN of torchvision with a ResNet backbone, such as "fasterrcnn_resnet50_fpn", or FILE.py:FUNCTION, a
            function that returns one.
        images: Folder of training images of any size (boxes are not used), or "scenes".
        transfer: Module that computes the level: "ftt", "espcn", "ftt-512", … (`featlift list texture-transfers`).
        weights: Weights: "none", "DEFAULT" (downloaded) or a file.
        training: Steps, learning rate and device of the training.
        small_roi_size: Objects with a side below this, in pixels of the resized image, are pooled from the new level.
        out: Delta file; load it with `featlift.load_delta` onto the same detector. The training log is written to ``….run``.

    Raises:
        ValueError: If the detector does not support the level, or steps are given without images.
    """
    if training.steps and not images:
        raise ValueError("Training needs images: give --images FOLDER or --images scenes.")
    detector = load_network_by_name(model, weights)
    warn_about_random_weights(model, weights)
    upgrade_and_print(detector, transfer, level="p2x")
    if training.steps:
        dataset = SyntheticScenes(200) if images == "scenes" else UnlabeledImageFolder(images)
        distill_level(detector, dataset, training, Path(f"{out}.run"))
        enable_level(detector, small_roi_size)
        print(f"objects under {small_roi_size:g} px are now pooled from p2x")
    save_delta(detector, out)
    print(out)
    return Path(out)
