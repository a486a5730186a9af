"""Windows of one size out of pictures of any size."""

import torch
from torch import Tensor

from featlift.data.augment import cropped
from featlift.data.dataset import Example, Pictures
from featlift.resolution import Target


class Window:
    """An augmentation: a random window of ``side`` × ``side`` pixels (FDSR, Sec. 3.1: 384).

    Raises:
        ValueError: when it meets a smaller picture; :func:`at_least` leaves those out.
    """

    def __init__(self, side: int, smallest: float = 2.0) -> None:
        self.side, self.smallest = side, smallest

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Example:
        """``[3, H, W]`` → ``[3, side, side]``; objects of which less than ``smallest`` px a side are left are dropped."""
        height, width = image.shape[-2:]
        if min(height, width) < self.side:
            raise ValueError(
                f"A window of {self.side} px does not fit into a picture of {height}x{width}; leave small pictures out."
            )
        top = int(torch.randint(height - self.side + 1, (), generator=generator))
        left = int(torch.randint(width - self.side + 1, (), generator=generator))
        return cropped(image, target, (top, left, self.side, self.side), self.smallest)


class Selection:
    """The pictures of ``dataset`` with the given ``indices``, in their order."""

    def __init__(self, dataset: Pictures, indices: list[int]) -> None:
        self.classes = dataset.classes
        self._dataset, self._indices = dataset, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        """Picture ``index`` of the selection; see `featlift.data.dataset`."""
        return self._dataset[self._indices[index]]

    def name(self, index: int) -> str:
        """Its name in the whole dataset."""
        return self._dataset.name(self._indices[index])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._dataset.size(self._indices[index])

    def coco(self) -> dict:
        """The ground truth of the selected pictures alone; ids as in the whole dataset."""
        whole = self._dataset.coco()
        images = [whole["images"][index] for index in self._indices]
        ids = {image["id"] for image in images}
        annotations = [annotation for annotation in whole["annotations"] if annotation["image_id"] in ids]
        return {**whole, "images": images, "annotations": annotations}


def at_least(dataset: Pictures, side: int, count: int | None = None, seed: int = 0) -> Selection:
    """The pictures whose both sides have ``side`` px or more; of these, ``count`` drawn by ``seed`` (all without).

    FDSR, Sec. 3.1: 20,000 pictures of COCO with both sides above 384.

    Raises:
        ValueError: if no picture is large enough.
    """
    large = [index for index in range(len(dataset)) if min(dataset.size(index)) >= side]
    if not large:
        largest = max(min(dataset.size(index)) for index in range(len(dataset)))
        raise ValueError(f"No picture has {side} px a side; the largest has {largest}. Choose smaller crops.")
    if count is not None and count < len(large):
        order = torch.randperm(len(large), generator=torch.Generator().manual_seed(seed))
        large = sorted(large[place] for place in order[:count].tolist())
    return Selection(dataset, large)
