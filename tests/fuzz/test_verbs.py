"""Verbs on damaged files end well, or with a sentence that names the file: never with a traceback or an error of unknown cause.

All damages with ``make fuzz`` (``FEATLIFT_FUZZ=1``), one of each verb and file otherwise.
"""

import json
import os
import shutil
import struct

import numpy as np
import pytest
import torch

from featlift import checkpoints
from featlift.cli import main
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.image_sr.compact import CompactSR

DAMAGES = {
    "cut": lambda content, rng: content[: int(rng.integers(0, len(content)))],
    "cut in the header": lambda content, rng: content[: int(rng.integers(0, min(len(content), 40)))],
    "empty": lambda content, rng: b"",
    "zeros": lambda content, rng: bytes(len(content)),
    "one byte": lambda content, rng: replace(content, int(rng.integers(0, len(content))), rng.bytes(1)),
    "one byte of the header": lambda content, rng: replace(content, int(rng.integers(0, min(len(content), 120))), rng.bytes(1)),
    "another file": lambda content, rng: b"\x80\x04\x95" + rng.bytes(200),
    "huge length": lambda content, rng: struct.pack("<Q", 2**62) + content[8:],
    "not UTF-8": lambda content, rng: b"\xff\xfe" + content,
    "number": lambda content, rng: b"7",
}  # fmt: skip
COMMANDS = {
    "predict, model": ("predict model.safetensors coco/val --out OUT --device cpu", "model.safetensors"),
    "predict, image": ("predict model.safetensors coco/val --out OUT --device cpu", "coco/val/*"),
    "evaluate, model": ("evaluate model.safetensors --data coco --out OUT/result.json --device cpu", "model.safetensors"),
    "evaluate, annotations": ("evaluate model.safetensors --data coco --out OUT/result.json --device cpu", "coco/instances_val.json"),
    "profile, model": ("profile model.safetensors --image-size 64x64 --rounds 1 --plot-file OUT/p.png --device cpu", "model.safetensors"),
    "upscale, model": ("upscale coco/val --out OUT --model sr.safetensors --device cpu", "sr.safetensors"),
    "upscale, image": ("upscale coco/val --out OUT --model sr.safetensors --device cpu", "coco/val/*"),
    "index, image": ("index coco/val --out OUT", "coco/val/*"),
    "search, query": ("search index coco/val/IMAGE --out OUT/page.html", "coco/val/*"),
    "search, embedder": ("search index coco/val/IMAGE --out OUT/page.html", "index/embedder.json"),
    "check, annotations": ("data check coco", "coco/instances_val.json"),
    "check, image": ("data check coco", "coco/val/*"),
    "convert, annotations": ("data convert coco OUT --to yolo", "coco/instances_train.json"),
    "convert, image": ("data convert coco OUT --to voc", "coco/val/*"),
}  # fmt: skip


def replace(content, position, byte):
    return content[:position] + byte + content[position + 1 :]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with everything that the commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    sizes = ["--num-train", "2", "--num-val", "2", "--image-size", "64"]
    assert main.main(["data", "generate", str(folder / "coco"), *sizes]) == 0
    torch.manual_seed(0)
    config = DetectorConfig(
        detector="fcos",
        backbone="test_resnet.r160_in1k",
        backbone_weights="random",
        norm="batch",
        pyramid_channels=8,
        detector_options={"test_size": [64, 64]},
    )
    document = json.loads((folder / "coco" / "instances_val.json").read_text())
    classes = [category["name"] for category in document["categories"]]
    save_detector(build_detector(config, len(classes)), config, classes, folder, "model.safetensors")
    checkpoints.save(CompactSR(scale=2, depth=1, width=4), folder / "sr.safetensors")
    assert main.main(["index", str(folder / "coco" / "val"), "--out", str(folder / "index")]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", COMMANDS)
def test_a_damaged_file_ends_in_a_sentence(case, inputs, tmp_path, monkeypatch, capsys, count):
    command, pattern = COMMANDS[case]
    first = list(COMMANDS).index(case)
    damages = list(DAMAGES) if os.environ.get("FEATLIFT_FUZZ") else [list(DAMAGES)[(3 * first) % len(DAMAGES)]]
    for number, damage in enumerate(damages):
        folder = tmp_path / str(number)
        shutil.copytree(inputs, folder)
        monkeypatch.chdir(folder)
        file = sorted(folder.glob(pattern))[0]
        file.write_bytes(DAMAGES[damage](file.read_bytes(), np.random.default_rng(number)))
        words = [word.replace("OUT", "out").replace("IMAGE", file.name) for word in command.split()]
        if "IMAGE" in command and file.suffix == ".json":
            words[2] = str(sorted(folder.glob("coco/val/*"))[0])
        capsys.readouterr()
        code = main.main(words)
        text = capsys.readouterr()
        told = f"{case}, {damage}: code {code}: {text.err[-1500:]}"
        assert code in (0, 1), told
        assert "fault of FeatLift" not in text.err, told
        assert code == 0 or file.name in text.err + text.out, told
        count("commands on damaged files", "refused" if code else "read")
