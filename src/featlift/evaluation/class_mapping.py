"""Map the labels of any detector to the category ids of a dataset, by class name.

Detectors number their classes differently: torchvision's 91 labels of COCO, Hugging Face's ``id2label`` and Detectron2's and
Ultralytics' labels from 0. Names agree, so detections are mapped by name, before the first image is read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from featlift.data.dataset import ImageDataset

NO_CLASS = ("__background__", "background", "N/A", "")
"""Names of entries that are no class: background, and numbers of COCO that no category has."""

COCO_NAMES = {
    "aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle", "pottedplant": "potted plant", "sofa": "couch",
    "tvmonitor": "tv",
}  # fmt: skip
"""PASCAL VOC's names of classes that COCO names differently."""

LabelIds = dict[int, int | None]
"""Detector label → category id of the dataset; None for a class that is not evaluated."""


def label_names(source: Any) -> dict[int, str]:
    """Detector label → class name, without the background.

    Args:
        source: A sequence of names (label k is the k-th, from 1; if it starts with ``"__background__"``, as torchvision's
            ``weights.meta["categories"]``, entry k is label k); a mapping from label to name (``id2label``, ``names``); or
            an object that has one of these: a torchvision weight, a Hugging Face model or configuration, an Ultralytics
            model, Detectron2's metadata (labels from 0).

    Raises:
        TypeError: If no class names are found in ``source``.
    """
    if isinstance(source, Mapping):
        names = {int(label): str(name) for label, name in source.items()}
    elif isinstance(source, Sequence) and not isinstance(source, str):
        first = 0 if source and source[0] in NO_CLASS else 1
        names = {label: str(name) for label, name in enumerate(source, start=first)}
    else:
        names = _names_of_object(source)
    return {label: name for label, name in names.items() if name not in NO_CLASS}


def _names_of_object(source: Any) -> dict[int, str]:
    config = getattr(source, "config", source)
    if isinstance(getattr(config, "id2label", None), Mapping):
        return {int(label): str(name) for label, name in config.id2label.items()}
    if isinstance(getattr(source, "names", None), Mapping):
        return dict(source.names)
    if hasattr(source, "thing_classes"):
        return dict(enumerate(source.thing_classes))
    if isinstance(getattr(source, "meta", None), Mapping) and "categories" in source.meta:
        return label_names(source.meta["categories"])
    raise TypeError(
        f"No class names in {type(source).__name__}. Give a list of names (label k is the k-th, from 1) or a dictionary from label to name."
    )


def match_classes(classes: Any, dataset: ImageDataset, renamed: Mapping[str, str] | None = None) -> LabelIds:
    """Map each label of a detector to the category id of the class of the same name in ``dataset``.

    Names are equal if they differ only in case, and in ``_``, ``-`` or a space, or as PASCAL VOC's and COCO's do (`COCO_NAMES`).

    Args:
        classes: Class names of the detector, as `label_names` takes them.
        dataset: Dataset on which the detector is evaluated.
        renamed: Detector's name → dataset's name, for names that differ. Detector classes whose name is still not in the
            dataset are then not evaluated.

    Raises:
        ValueError: If a class of one has no counterpart in the other, two labels have one name, or ``renamed`` has an unknown name.
    """
    names = label_names(classes)
    mapping = _map_labels(names, dataset, renamed)
    _check_complete(mapping, names, dataset, bool(renamed))
    return mapping


def match_known_classes(classes: Any, dataset: ImageDataset, renamed: Mapping[str, str] | None = None) -> LabelIds:
    """Map labels as `match_classes`, of a detector that may know classes that ``dataset`` does not have; these are not evaluated.

    For detectors trained on COCO and a dataset of some of its classes.

    Raises:
        ValueError: If the dataset has a class that the detector does not know, or as `match_classes`.
    """
    names = label_names(classes)
    mapping = _map_labels(names, dataset, renamed)
    _check_complete(mapping, names, dataset, may_ignore=True)
    return mapping


def find_detector_labels(
    classes: Any, dataset: ImageDataset, renamed: Mapping[str, str] | None = None
) -> dict[int, int]:
    """Label of ``dataset`` → label of the detector, by class name, for the losses of the detector; as `match_known_classes`."""
    labels = {id_: label for label, id_ in match_known_classes(classes, dataset, renamed).items()}
    return {label: labels[id_] for label, id_ in enumerate(dataset.category_ids, start=1)}


def _map_labels(names: Mapping[int, str], dataset: ImageDataset, renamed: Mapping[str, str] | None) -> LabelIds:
    renamed = dict(renamed or {})
    _check_renamed(renamed, names, dataset.classes)
    ids = {_normalize(name): id_ for name, id_ in zip(dataset.classes, dataset.category_ids, strict=True)}
    exact = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    targets = {label: renamed.get(name, name) for label, name in names.items()}
    return {label: exact.get(name, ids.get(_normalize(name))) for label, name in targets.items()}


def _normalize(name: str) -> str:
    normalized = name.strip().casefold().replace("_", " ").replace("-", " ")
    return COCO_NAMES.get(normalized, normalized)


def _check_renamed(renamed: Mapping[str, str], names: Mapping[int, str], classes: Sequence[str]) -> None:
    unknown = [name for name in renamed if name not in names.values()]
    if unknown:
        raise ValueError(f"The detector has no class {_listed(unknown)}; its classes are {_listed(names.values())}.")
    unknown = [name for name in renamed.values() if name not in classes]
    if unknown:
        raise ValueError(f"The dataset has no class {_listed(unknown)}; its classes are {_listed(classes)}.")


def _check_complete(mapping: LabelIds, names: Mapping[int, str], dataset: ImageDataset, may_ignore: bool) -> None:
    used = [id_ for id_ in mapping.values() if id_ is not None]
    missing = [name for name, id_ in zip(dataset.classes, dataset.category_ids, strict=True) if id_ not in used]
    extra = [names[label] for label, id_ in mapping.items() if id_ is None]
    if len(set(used)) < len(used):
        raise ValueError(f"Two classes of the detector have one name: its classes are {_listed(names.values())}.")
    if missing or (extra and not may_ignore):
        parts = [f"the detector does not know {_listed(missing)}"] if missing else []
        parts += [f"the dataset does not have {_listed(extra)}"] if extra else []
        raise ValueError(
            f"The classes of detector and dataset differ: {'; '.join(parts)}. The detector knows {_listed(names.values())}; the "
            f"dataset has {_listed(dataset.classes)}. Use data of the same classes, or name the pairs: "
            "--class-map.DETECTOR_NAME DATASET_NAME."
        )


def _listed(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:20]) + (f", … ({len(listed)})" if len(listed) > 20 else "")
