"""Other libraries offline, with their settings in a temporary folder; tiny data in their formats."""

import os
import shutil
import tempfile
from pathlib import Path

import matplotlib
import pytest
import torch
from torchvision.io import write_png

from featlift.data.synthetic.scenes import SyntheticScenes

CONFIG_DIR = Path(tempfile.mkdtemp(prefix="featlift_integrations_"))
os.environ |= {
    "YOLO_CONFIG_DIR": str(CONFIG_DIR),
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}


@pytest.fixture(scope="session", autouse=True)
def _offline():
    """Give Ultralytics a font file, which it would download otherwise; remove its settings at the end."""
    folder = CONFIG_DIR / "Ultralytics"
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", folder / "Arial.ttf")
    yield
    shutil.rmtree(CONFIG_DIR, ignore_errors=True)


@pytest.fixture(scope="session")
def yolo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four images of 64 px with three classes in the format of Ultralytics; returns its YAML file."""
    folder = tmp_path_factory.mktemp("yolo")
    scenes = SyntheticScenes(4, (64, 64))
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for index in range(len(scenes)):
        image, target = scenes[index]
        height, width = image.shape[-2:]
        write_png((image * 255).to(torch.uint8), str(folder / f"images/{index}.png"))
        boxes = target["boxes"] / torch.tensor([width, height, width, height])
        centers = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
        lines = [
            f"{int(label) % 3} " + " ".join(f"{x:.6f}" for x in box.tolist())
            for label, box in zip(target["labels"], centers, strict=True)
        ]
        (folder / f"labels/{index}.txt").write_text("\n".join(lines))
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: images\nval: images\nnc: 3\nnames: {{0: a, 1: b, 2: c}}\n")
    return data
