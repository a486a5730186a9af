"""Write datasets as COCO folders, and validate COCO folders."""

from collections import Counter
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from featlift.data.coco import CocoDataset
from featlift.data.convert import write_coco_dataset
from featlift.data.object_sizes import AREA_BINS, area_bin_of
from featlift.data.open_dataset import list_splits, open_split_source
from featlift.data.problems import DatasetReport
from featlift.data.synthetic.scenes import SyntheticScenes


def write_synthetic_dataset(
    folder: str | PathLike[str],
    num_train: int = 400,
    num_val: int = 100,
    image_size: tuple[int, int] = (160, 160),
    seed: int = 0,
) -> dict[str, SyntheticScenes]:
    """Write procedural scenes as a COCO folder with the splits "train" and "val", and return the datasets.

    Raises:
        FileExistsError: If ``folder`` exists and is not empty.
    """
    splits = {
        "train": SyntheticScenes(num_train, image_size, seed),
        "val": SyntheticScenes(num_val, image_size, seed, first_index=num_train),
    }
    write_coco_dataset(splits, folder)
    return splits


@dataclass
class SplitStatistics:
    """Statistics of a split: the report of its reading, objects per class, and objects per size of `AREA_BINS`.

    ``str()`` formats them for printing.
    """

    split: str
    report: DatasetReport
    objects_per_class: dict[str, int] = field(default_factory=dict)
    objects_per_size: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join([
            f"{self.split}: {self.report}",
            "  classes: " + ", ".join(f"{name} {number}" for name, number in self.objects_per_class.items()),
            "  sizes: " + ", ".join(f"{name} {number}" for name, number in self.objects_per_size.items()),
        ])  # fmt: skip


def check_dataset(root: str | PathLike[str]) -> dict[str, SplitStatistics]:
    """Decode every image of all splits of a folder in any format and validate every annotation.

    Raises:
        FileNotFoundError: If there is no split; names the expected files.
        DatasetError: If a file is not in its format, or none of its images is usable.
    """
    sources = {split: open_split_source(Path(root), split) for split in list_splits(root)}
    return {
        split: compute_split_statistics(split, CocoDataset.from_source(source, skip_broken=True))
        for split, source in sources.items()
    }


def compute_split_statistics(split: str, dataset: CocoDataset) -> SplitStatistics:
    """Count the objects of ``dataset`` without crowd regions, per class (most frequent first) and per size."""
    objects = [a for a in dataset.coco()["annotations"] if not a["iscrowd"]]
    names = dict(zip(dataset.category_ids, dataset.classes, strict=True))
    per_class = Counter(names[a["category_id"]] for a in objects)
    per_size = Counter(area_bin_of(a["area"]) for a in objects)
    return SplitStatistics(
        split, dataset.report, dict(per_class.most_common()), {name: per_size[name] for name in AREA_BINS}
    )
