"""Damaged annotation files of the formats other than COCO, and damaged weights: read, or refused with the name of the folder or file.

All of them with ``make fuzz`` (``FEATLIFT_FUZZ=1``), every hundredth otherwise.
"""

import os
import re
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featlift import checkpoints
from featlift.cli import main
from featlift.data.convert import convert_dataset
from featlift.data.open_dataset import open_dataset
from featlift.image_sr.compact import CompactSR

FORMATS = {"yolo": "*.txt", "yolo, data.yaml": "*.yaml", "voc": "*.xml", "labelme": "*.json"}
"""Format, and its annotation files."""
MUTATIONS = 1000
STEP = 1 if os.environ.get("FEATLIFT_FUZZ") else 100
VALUES = (
    "",
    "-1",
    "0",
    "1e308",
    "-1e308",
    "nan",
    "inf",
    "1.5",
    "x",
    "null",
    "9" * 400,
    "..",
    "[1, 2]",
    "{}",
    "true",
    "\u00e4",
)
"""What a number or word is replaced by."""
TOKEN = re.compile(r"-?\d+(?:\.\d+)?|[A-Za-z_]+")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same images and objects in each of `FORMATS`."""
    root = tmp_path_factory.mktemp("formats")
    assert (
        main.main(["data", "generate", str(root / "coco"), "--num-train", "2", "--num-val", "1", "--image-size", "64"])
        == 0
    )
    for name in ("yolo", "voc", "labelme"):
        list(convert_dataset(str(root / "coco"), str(root / name), name))
    return root


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace a number or word, or cut, repeat, remove or overwrite a part."""
    tokens = list(TOKEN.finditer(content.decode("utf-8", "replace")))
    kind = int(rng.integers(8))
    start = int(rng.integers(0, max(1, len(content))))
    length = int(rng.integers(1, 40))
    if kind < 4 and tokens:
        match, text = tokens[int(rng.integers(len(tokens)))], content.decode("utf-8", "replace")
        return (text[: match.start()] + VALUES[int(rng.integers(len(VALUES)))] + text[match.end() :]).encode()
    if kind == 4:
        return content[:start]
    if kind == 5:
        return content[:start] + content[start + length :]
    if kind == 6:
        return content[:start] + content[start : start + length] * 2 + content[start:]
    return content[:start] + rng.bytes(length) + content[start + length :]


def read_all(folder, skip_broken):
    """Read a split; its boxes must be usable."""
    dataset = open_dataset(folder, "train", skip_broken)
    for index in range(len(dataset)):
        image, target = dataset[index]
        height, width = image.shape[-2:]
        boxes = target["boxes"]
        assert boxes.isfinite().all()
        assert ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, :2] >= 0)).all()
        assert ((boxes[:, 2] <= width) & (boxes[:, 3] <= height)).all()


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_annotations_of_a_format(folders, name, count):
    folder = folders / name.partition(",")[0]
    files = sorted(file for file in folder.rglob(FORMATS[name]) if "val" not in str(file.relative_to(folder)))
    for number in range(0, MUTATIONS, STEP):
        rng = np.random.default_rng(number)
        file = files[number % len(files)]
        original = file.read_bytes()
        file.write_bytes(mutate(original, rng))
        read = partial(read_all, folder, skip_broken=number % 2 == 1)
        try:
            outcome = read_or_refuse(read, folders, f"{name}, {file.name}, number {number}")
        finally:
            file.write_bytes(original)
        count("damaged YOLO, PASCAL VOC and LabelMe files", outcome)


def read_or_refuse(read, folder, case):
    """Return "read" or "refused"; an error of another type, or one without the path, fails."""
    refusal = None
    try:
        read()
    except (OSError, ValueError) as error:
        refusal = error
    except Exception as error:
        raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
    assert refusal is None or str(folder) in str(refusal), f"{case}: {refusal}"
    return "refused" if refusal else "read"


def test_damaged_weights(tmp_path, count):
    file = tmp_path / "model.safetensors"
    checkpoints.save(CompactSR(scale=2, depth=1, width=4), file)
    original = file.read_bytes()
    header = original[: 8 + int.from_bytes(original[:8], "little")]
    for number in range(0, MUTATIONS, STEP):
        rng = np.random.default_rng(number)
        body = header if number % 4 else original
        file.write_bytes(mutate(body, rng) + original[len(body) :])
        count("damaged weights", read_or_refuse(partial(checkpoints.load, file), tmp_path, f"number {number}"))


def test_weights_of_other_libraries_are_no_network_of_ours(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert read_or_refuse(partial(checkpoints.load, tmp_path / "other.safetensors"), tmp_path, "other") == "refused"
