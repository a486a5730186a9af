"""One line before a training of FDSR, after a check that it can be evaluated at its end."""

from featlift.data.config import build_dataset, load_data_config
from featlift.detectors.by_name import load_detector_by_name
from featlift.papers.fdsr.evaluation import match_detector, plan_evaluation
from featlift.papers.fdsr.settings import Settings
from featlift.papers.fdsr.training import find_loss_labels
from featlift.runs.announce import describe_super_resolver_training


def describe_fdsr_training(settings: Settings, stop_after: str = "") -> str:
    """Describe the training (`describe_super_resolver_training`), after a check that it can be evaluated at its end.

    Raises:
        ValueError: If the detector of the evaluation is none, or its classes differ from those of the dataset; or if a detector's losses
            are trained on data with classes that it does not know.
        FileNotFoundError: If a run folder or the dataset of the evaluation does not exist.
        OSError: If the weights of the detector cannot be downloaded.
    """
    description = describe_super_resolver_training(settings, stop_after)
    find_loss_labels(settings)
    config = plan_evaluation(settings)
    if config is None:
        return description
    try:
        dataset = build_dataset(load_data_config(config.detector, config.data), config.split)
    except (FileNotFoundError, ValueError) as error:
        remedy = (
            "The trained network is evaluated on these images: --evaluation.data FOLDER, or --evaluation.detector none."
        )
        raise type(error)(f"{error} {remedy}") from error
    match_detector(config.detector, dataset, config.class_map)
    load_detector_by_name(config.detector, "DEFAULT")
    return description
