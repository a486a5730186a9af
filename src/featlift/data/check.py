"""Check a dataset before training: every image and annotation of its splits, and their agreement (``featlift data check``)."""

from collections import Counter
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from featlift.data.coco import CocoDataset
from featlift.data.dataset import ImageDataset
from featlift.data.image_checks import check_common_images, check_image_facts, read_image_facts
from featlift.data.object_sizes import AREA_BINS, area_bin_of
from featlift.data.open_dataset import locate_split, open_dataset
from featlift.data.problems import DatasetReport, Finding
from featlift.data.run_data import check_same_classes

SPLITS = ("train", "val")


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


def check_dataset(root: str | PathLike[str], val_root: str | PathLike[str] = "") -> DatasetCheck:
    """Decode every image of the splits "train" and "val" of ``root``, validate every annotation, and compare the splits.

    ``val_root`` is another dataset for "val", as in `featlift.data.config.DataConfig`.

    Raises:
        FileNotFoundError: If neither split exists; names the expected files.
        DatasetError: If a file is not in its format, or none of its images is usable.
    """
    datasets, missing = _open_splits(str(root), str(val_root))
    facts = {split: list(read_image_facts(dataset)) for split, dataset in datasets.items()}
    splits = {split: compute_split_statistics(split, dataset) for split, dataset in datasets.items()}
    for split, statistics in splits.items():
        statistics.findings += check_image_facts(facts[split])
    findings = [*missing, *check_common_images(facts)]
    if len(datasets) == len(SPLITS):
        try:
            check_same_classes(
                datasets["train"], datasets["val"], " and ".join(filter(None, map(str, (root, val_root))))
            )
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


def _open_splits(root: str, val_root: str) -> tuple[dict[str, ImageDataset], list[Finding]]:
    """The splits that exist, and a warning for one that does not."""
    datasets: dict[str, ImageDataset] = {}
    errors = {}
    for split in SPLITS:
        try:
            datasets[split] = open_dataset(*locate_split(root, val_root, split), skip_broken=True)
        except FileNotFoundError as error:
            errors[split] = error
    if not datasets:
        raise next(iter(errors.values()))
    return datasets, [Finding("warning", f"there is no split {split}", [str(error)]) for split, error in errors.items()]


def _count_entries(split: str, dataset: ImageDataset, num_objects: int) -> DatasetReport:
    return DatasetReport(Path(split), len(dataset), num_objects, len(dataset.classes))
