"""``featlift upgrade``: put a learned interpolator into a torchvision detector, fine-tune it, write a delta file."""

from pathlib import Path

from featlift.data.config import count_classes
from featlift.deployment.latency_budget import UNLIMITED_BUDGET, LatencyBudget, select_within_budget
from featlift.integrations.by_name import load_network_by_name
from featlift.runs.upgrade_training import (
    NO_FINE_TUNING,
    FineTuneOptions,
    check_coco_labels,
    check_options_have_effect,
    check_trainable,
    fine_tune_upgrade,
    upgrade_and_print,
    warn_about_random_weights,
)
from featlift.training.seeds import seed_everything
from featlift.upgrading import save_delta


def upgrade_detector(
    model: str,
    interpolator: str = "afi",
    weights: str = "none",
    data: str = "",
    fine_tuning: FineTuneOptions = NO_FINE_TUNING,
    latency_budget: LatencyBudget = UNLIMITED_BUDGET,
    out: str = "upgrade.safetensors",
) -> Path:
    """Upgrade a detector in place, train the added modules, and write a file that contains only the difference.

    Without steps the command prints the added modules and checks that the outputs are bit-identical.

    Args:
        model: Run folder, name of a torchvision detector such as "fasterrcnn_resnet50_fpn", hf:FOLDER_OR_ID, ultralytics:yolo11n.yaml,
            torchvision:NAME, timm:NAME, or FILE.py:FUNCTION, a function that returns the network.
        interpolator: Name of the interpolator; see `featlift list interpolators`.
        weights: Weights: "none" (random, unless the model is a file or folder), "DEFAULT" (downloaded) or a file.
        data: COCO folder to train on, or "scenes".
        fine_tuning: Training of the added modules.
        latency_budget: Latency limit by which the interpolator is chosen.
        out: Delta file; load it with `featlift.load_delta` onto the same detector. The training log is written to ``….run``.

    Raises:
        ValueError: If a name is unknown, no interpolator meets the budget, or the classes of the data are not those of the weights, or
            options of the training are given without steps.
    """
    is_given = {"lr": fine_tuning.lr != NO_FINE_TUNING.lr, "train-all": fine_tuning.train_all}
    check_options_have_effect(fine_tuning.steps, is_given)
    if fine_tuning.steps:
        check_coco_labels(model, weights, data or "scenes")
    detector = load_network_by_name(model, weights, count_classes(data))
    if fine_tuning.steps or latency_budget.max_latency_ms:
        check_trainable(detector, model)
    warn_about_random_weights(model, weights)
    if latency_budget.max_latency_ms:
        interpolator = select_within_budget(detector, latency_budget)
    seed_everything(fine_tuning.seed)
    upgrade_and_print(detector, interpolator)
    if fine_tuning.steps:
        fine_tune_upgrade(detector, data or "scenes", fine_tuning, Path(f"{out}.run"), latency_budget.device)
    save_delta(detector, out)
    print(out)
    return Path(out)
