"""The extended level on COCO: joined annotations, the cost table, and a random YOLOX-Nano from training to table."""

import json
import sys

import coco_level
import coco_level_data
import pytest
import torch
from coco_level_data import join_parts, open_held_out
from PIL import Image

from featlift.integrations.yolox_network import build_yolox
from featlift.upgrading import enable_level, upgrade
from featlift.upgrading.extended_family import enlarge


def write_part(folder, name, file_names, first_id):
    """Images ``file_names`` with an object each, and their COCO file."""
    (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for number, file_name in enumerate(file_names, first_id):
        Image.effect_noise((96, 64), 60).convert("RGB").save(folder / name / file_name)
        images.append({"id": number, "file_name": file_name, "width": 96, "height": 64})
        annotation = {
            "id": 1,
            "image_id": number,
            "category_id": 3,
            "bbox": [10, 10, 20, 20],
            "area": 400,
            "iscrowd": 0,
        }
        annotations.append(annotation)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "car"}]}
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / f"{name}.json", folder / name


def test_parts_are_joined_without_the_images_of_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_level_data, "DATA", tmp_path)
    parts = [write_part(tmp_path, "a", ["1.jpg", "2.jpg"], 1), write_part(tmp_path, "b", ["3.jpg"], 7)]
    joined = join_parts(parts, {"2.jpg"})
    assert [(image["id"], image["file_name"]) for image in joined["images"]] == [(1, "a/1.jpg"), (7, "b/3.jpg")]
    assert [(one["id"], one["image_id"]) for one in joined["annotations"]] == [(1, 1), (2, 7)]
    assert joined["categories"] == [{"id": 3, "name": "car"}]


def test_the_extra_time_is_a_share_of_the_enlarged_images_extra_time():
    seconds = {"plain": [9.0, 9.0, 0.1, 0.3], "2x image": [9.0, 9.0, 0.9, 1.1], "level": [9.0, 9.0, 0.5, 0.7]}
    rows = {row.pop("detector"): row for row in coco_level.time_rows(seconds)}
    assert rows["plain"] == {"ms": 200.0, "x plain": 1.0, "extra / 2x image's extra": 0.0}
    assert rows["level"] == {"ms": 600.0, "x plain": 3.0, "extra / 2x image's extra": 0.5}


@pytest.fixture
def random_yolox(tmp_path, monkeypatch):
    """Random weights in place of the published ones, three unlabeled images and three labeled ones."""
    pytest.importorskip("yolox", reason="pixeltable-yolox is not installed")
    torch.manual_seed(0)
    state = build_yolox("nano").state_dict()

    def load(path):
        network = build_yolox("nano")
        network.load_state_dict(state)
        return network.eval()

    data, unlabeled = tmp_path / "data", tmp_path / "unlabeled"
    parts = {"coco80": (write_part(data, "a", ["1.jpg", "2.jpg", "3.jpg"], 1),)}
    write_part(tmp_path, "unlabeled", ["x.jpg", "y.jpg", "z.jpg"], 1)
    for module, name, value in (
        (coco_level, "load_yolox", load),
        (coco_level, "UNLABELED", unlabeled),
        (coco_level, "IMAGE_SIZE", 96),
        (coco_level_data, "UNLABELED", unlabeled),
        (coco_level_data, "PARTS", parts),
        (coco_level_data, "DATA", data),
    ):
        monkeypatch.setattr(module, name, value)
    return tmp_path


@torch.no_grad()
def test_the_bound_reads_the_coarsest_map_of_the_enlarged_image(random_yolox):
    network, image = coco_level.load_yolox(""), 255 * torch.rand(1, 3, 64, 96)
    bound = coco_level.build_reference("bound").network
    upgrade(network, level="p3x", num_blocks=0)
    family, seen = network.level_family, []
    expected = family.coarse_map(network, family.early_maps(network, enlarge(image)))
    bound.added_level.register_forward_hook(lambda *args: seen.append(args[-1]))
    enable_level(network)
    bound(image)
    torch.testing.assert_close(seen[0], expected)


def test_train_and_evaluate_end_to_end(random_yolox, monkeypatch):
    results = {}
    monkeypatch.setattr(coco_level, "write_result", lambda name, tables, metadata: results.update({name: tables}))
    words = ["--out", str(random_yolox / "out"), "--candidates", "nearest", "carafe+guided", "--seeds", "1"]
    words += ["--steps", "1", "--batch-size", "2", "--sets", "coco80", "--n-resamples", "10"]
    for step in ("train", "evaluate", "time"):
        monkeypatch.setattr(sys, "argv", ["coco_level.py", step, *words, "--num-images", "3", "--name", step])
        coco_level.main()
    (table,) = results["evaluate"]
    assert [row["level"] for row in table["rows"]] == [
        "none",
        "2x image",
        "bound",
        "nearest",
        "nearest",
        *["carafe+guided"] * 2,
    ]
    assert all("ap - plain" in row for row in table["rows"][1:])
    assert len(list((random_yolox / "out").glob("*.safetensors"))) == 1  # nearest has no parameters
    assert [row["detector"] for row in results["time"][0]["rows"]][:3] == ["plain", "2x image", "nearest, everywhere"]
    assert len(open_held_out("coco80", random_yolox / "out").dataset) == 3
