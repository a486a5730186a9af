"""Every test starts from the same random state, on one thread: two workers share two cores."""

import pytest
import torch

from featlift.cli import main

TINY = [
    "--preset", "quick", "--data.batch_size", "2", "--train.steps", "1", "--model.pyramid_channels", "8", "--device", "cpu",
    "--model.detector_options", '{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}',
]  # fmt: skip
"""Options of ``featlift train baseline`` for a detector that trains in seconds."""


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    """A COCO folder with two training and two validation images, written by ``featlift data generate``."""
    folder = tmp_path_factory.mktemp("images") / "coco"
    sizes = ["--num-train", "2", "--num-val", "2", "--image-size", "64"]
    assert main.main(["data", "generate", str(folder), *sizes]) == 0
    return folder


@pytest.fixture(scope="session")
def trained(coco, tmp_path_factory):
    """Run folders of two detectors trained on ``coco`` for one step, by interpolator name."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("nearest", "bilinear"):
        options = ["--run", str(folder / name), "--data", str(coco), "--model.interpolator", name, *TINY]
        assert main.main(["train", "baseline", *options]) == 0
    return {name: folder / name for name in ("nearest", "bilinear")}


@pytest.fixture
def marked():
    """``marked(height, width, seed)``: a dark image with one bright object, and its target."""
    return _marked


def _marked(height=64, width=96, seed=0):
    draw = torch.Generator().manual_seed(seed)
    left, top = (int(torch.randint(4, 20, (), generator=draw)) for _ in range(2))
    image, mask = torch.zeros(3, height, width), torch.zeros(1, height, width, dtype=torch.uint8)
    image[:, top : top + 16, left : left + 12] = 1
    mask[:, top : top + 16, left : left + 12] = 1
    boxes = torch.tensor([[left, top, left + 12, top + 16]], dtype=torch.float32)
    return image, {"boxes": boxes, "labels": torch.tensor([1]), "masks": mask, "area": torch.tensor([192.0])}
