"""Every test starts from the same random state, on one thread: two workers share two cores."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def marked():
    """``marked(height, width, seed)``: a dark picture with one bright object, and its target."""
    return _marked


def _marked(height=64, width=96, seed=0):
    draw = torch.Generator().manual_seed(seed)
    left, top = (int(torch.randint(4, 20, (), generator=draw)) for _ in range(2))
    image, mask = torch.zeros(3, height, width), torch.zeros(1, height, width, dtype=torch.uint8)
    image[:, top : top + 16, left : left + 12] = 1
    mask[:, top : top + 16, left : left + 12] = 1
    boxes = torch.tensor([[left, top, left + 12, top + 16]], dtype=torch.float32)
    return image, {"boxes": boxes, "labels": torch.tensor([1]), "masks": mask, "area": torch.tensor([192.0])}
