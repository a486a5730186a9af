"""Names of the tensors that the target reuses from the extractor (AFI-GAN Sec. 4.3, Table 3)."""

from torch import Tensor

from featlift.detectors import upsampled_levels
from featlift.detectors.checkpoint import INTERPOLATOR_PREFIX
from featlift.detectors.config import DetectorConfig
from featlift.distillation.feature_pairs import steps_of_levels


def renumber_interpolators(
    weights: dict[str, Tensor], target: DetectorConfig, extractor: DetectorConfig
) -> dict[str, Tensor]:
    """Number the interpolators of the extractor's ``weights`` as the steps of ``target``, which may have more or fewer (Table 3).

    Each step of the target takes the interpolator of the extractor's step of the nearest level; a single shared interpolator stays as
    it is.
    """
    own, others = (upsampled_levels(model.detector, model.pyramid) for model in (target, extractor))
    numbers = {_number(name) for name in select_prefix(weights, INTERPOLATOR_PREFIX)}
    if own == others or len(numbers) < 2:
        return weights
    nearest = steps_of_levels(own, others, len(others))
    renumbered = {name: value for name, value in weights.items() if not name.startswith(INTERPOLATOR_PREFIX)}
    for number, level in enumerate(own):
        source = select_prefix(weights, f"{INTERPOLATOR_PREFIX}{nearest[level][0]}.")
        renumbered |= {_replace_number(name, number): value for name, value in source.items()}
    return renumbered


def select_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix``."""
    return {name: value for name, value in weights.items() if name.startswith(prefix)}


def _number(name: str) -> str:
    return name[len(INTERPOLATOR_PREFIX) :].partition(".")[0]


def _replace_number(name: str, number: int) -> str:
    """Return the name of the same tensor of interpolator ``number``."""
    return f"{INTERPOLATOR_PREFIX}{number}.{name[len(INTERPOLATOR_PREFIX) :].partition('.')[2]}"
