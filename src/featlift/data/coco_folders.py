"""Write synthetic scenes as COCO folders."""

from os import PathLike

from featlift.data.convert import write_coco_dataset
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
