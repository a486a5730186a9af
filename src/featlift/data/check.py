"""Check a dataset before training: every image and annotation of its splits, and their agreement (``featlift data check``)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from featlift.data.coco import CocoDataset
from featlift.data.dataset import ImageDataset
from featlift.data.formats.splits import ALL
from featlift.data.image_checks import check_common_images, check_image_facts, read_image_facts
from featlift.data.object_sizes import AREA_BINS, area_bin_of
from featlift.data.open_dataset import list_splits, open_dataset
from featlift.data.problems import DatasetReport, Finding
from featlift.data.run_data import check_same_classes

SPLITS = ("train", "val")
"""Splits that training needs."""


@dataclass
class SplitStatistics:
    """Statistics of a split: the report of its reading, objects per class, and objects per size of `AREA_BINS`.

    ``str()`` formats them for printing.
    """

    split: str
    report: DatasetReport
    objects_per_class: dict[str, int] = field(default_factory=dict)
    objects_per_size: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([
            f"{self.split}: {self.report}",
            "  classes: " + ", ".join(f"{name} {number}" for name, number in self.objects_per_class.items()),
            "  sizes: " + ", ".join(f"{name} {number}" for name, number in self.objects_per_size.items()),
            *(f"  {finding}" for finding in self.findings),
        ])  # fmt: skip


@dataclass
class DatasetCheck:
    """Statistics of each split and the findings between splits. ``str()`` formats them for printing."""

    splits: dict[str, SplitStatistics]
    findings: list[Finding]

    @property
    def num_errors(self) -> int:
        """Number of invalid entries, and of findings with which training would be wrong."""
        findings = [finding for split in self.splits.values() for finding in split.findings] + self.findings
        problems = sum(len(split.report.problems) for split in self.splits.values())
        return problems + sum(len(finding.examples) for finding in findings if finding.severity == "error")

    def __str__(self) -> str:
        return "\n".join([*map(str, self.splits.values()), *map(str, self.findings)])


def check_dataset(root: str | PathLike[str]) -> DatasetCheck:
    """Decode every image of all splits of ``root``, in any format, validate every annotation, and compare the splits.

    Raises:
        FileNotFoundError: If there is no split; names the expected files.
        DatasetError: If a file is not in its format, or none of its images is usable.
    """
    datasets = {split: open_dataset(root, split, skip_broken=True) for split in list_splits(root)}
    facts = {split: list(read_image_facts(dataset)) for split, dataset in datasets.items()}
    splits = {split: compute_split_statistics(split, dataset) for split, dataset in datasets.items()}
    for split, statistics in splits.items():
        statistics.findings += check_image_facts(facts[split])
    findings = [*_find_missing_splits(root, list(datasets)), *check_common_images(facts)]
    if set(SPLITS) <= set(datasets):
        try:
            check_same_classes(datasets["train"], datasets["val"], str(root))
        except ValueError as error:
            findings.append(Finding("error", "different classes in train and val", [str(error)]))
    return DatasetCheck(splits, findings)


def compute_split_statistics(split: str, dataset: ImageDataset) -> SplitStatistics:
    """Count the objects of ``dataset`` without crowd regions, per class (most frequent first) and per size."""
    truth = dataset.coco()
    objects = [a for a in truth["annotations"] if not a["iscrowd"]]
    names = {category["id"]: category["name"] for category in truth["categories"]}
    per_class = Counter(names[a["category_id"]] for a in objects)
    per_size = Counter(area_bin_of(a["area"]) for a in objects)
    report = dataset.report if isinstance(dataset, CocoDataset) else _count_entries(split, dataset, len(objects))
    sizes = {name: per_size[name] for name in AREA_BINS}
    statistics = SplitStatistics(split, report, dict(per_class.most_common()), sizes)
    keys = Counter((a["image_id"], a["category_id"], *(round(side, 2) for side in a["bbox"])) for a in objects)
    twice = [f"image {key[0]}: {names[key[1]]} at {list(key[2:])}" for key, count in keys.items() if count > 1]
    small = [f"image {a['image_id']}: {a['bbox']}" for a in objects if min(a["bbox"][2:]) < 1]
    found = [Finding("warning", "objects twice", twice), Finding("warning", "boxes below 1 px", small)]
    statistics.findings += [finding for finding in found if finding.examples]
    return statistics


def _find_missing_splits(root: str | PathLike[str], present: Sequence[str]) -> list[Finding]:
    """Warn of each split that training needs and that is not there; ``present`` "all" serves as "train", "test" as "val"."""
    substitutes = {"train": ALL, "val": "test"}
    missing = [split for split in SPLITS if not {split, substitutes[split]} & set(present)]
    message = f"{root} has {', '.join(present)}"
    return [Finding("warning", f"there is no split {split}", [message]) for split in missing]


def _count_entries(split: str, dataset: ImageDataset, num_objects: int) -> DatasetReport:
    return DatasetReport(Path(split), len(dataset), num_objects, len(dataset.classes))
