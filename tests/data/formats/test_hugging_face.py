import io
import json

import numpy as np
import pytest
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.formats.hugging_face import is_hugging_face, list_hugging_face_splits, read_hugging_face_split
from featlift.data.problems import DatasetError

PIXELS = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
BOXES = [[1.0, 2.0, 10.0, 5.0], [4.0, 0.0, 3.0, 20.0]]


def open_split(root, split="train", skip_broken=False):
    return CocoDataset.from_source(read_hugging_face_split(root, split), skip_broken)


def png():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    values = datasets.Sequence(datasets.ClassLabel(names=["cat", "fox"]))
    boxes = datasets.Sequence(datasets.Sequence(datasets.Value("float32"), 4))
    features = datasets.Features({
        "image": datasets.Image(), "image_id": datasets.Value("int64"), "objects": {"bbox": boxes, "category": values},
    })  # fmt: skip
    rows = [
        {
            "image": {"bytes": png(), "path": f"{i}.png"},
            "image_id": 7 + i,
            "objects": {"bbox": BOXES[:i], "category": [1, 0][:i]},
        }
        for i in range(3)
    ]
    dataset = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": dataset, "validation": dataset.select([2])}).save_to_disk(str(tmp_path / "dict"))
    dataset.save_to_disk(str(tmp_path / "one"))
    return tmp_path


def test_a_saved_dataset(saved):
    assert list_hugging_face_splits(saved / "dict") == ["train", "val"]
    dataset = open_split(saved / "dict", "val")
    image, target = dataset[0]
    assert (dataset.classes, dataset.category_ids) == (["cat", "fox"], [0, 1])
    assert (image.permute(1, 2, 0) * 255).round().byte().numpy().tolist() == PIXELS.tolist()
    assert target["boxes"].tolist() == [[1, 2, 11, 7], [4, 0, 7, 20]]
    assert (target["labels"].tolist(), int(target["image_id"])) == ([2, 1], 9)


def test_a_saved_dataset_that_is_not_divided_loads_in_workers(saved):
    from torch.utils.data import DataLoader

    dataset = open_split(saved / "one")
    items = list(DataLoader(dataset, batch_size=None, num_workers=1))
    assert [len(target["boxes"]) for _, target in items] == [0, 1, 2]


def write_folder(folder, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(folder / "a.png")
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_an_image_folder_with_metadata(tmp_path):
    for split, name in (("train", "fox"), ("test", "cat")):
        write_folder(tmp_path / split, {"file_name": "a.png", "objects": {"bbox": BOXES, "categories": [name, "ant"]}})
    assert is_hugging_face(tmp_path)
    dataset = open_split(tmp_path)
    assert dataset.classes == open_split(tmp_path, "val").classes == ["ant", "cat", "fox"]
    assert dataset[0][1]["labels"].tolist() == [3, 1]


def test_objects_as_a_list(tmp_path):
    write_folder(tmp_path, {"file_name": "a.png", "objects": [{"bbox": BOXES[0], "category": 2}]})
    assert (open_split(tmp_path).classes, open_split(tmp_path)[0][1]["labels"].tolist()) == (["0", "1", "2"], [3])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"objects": {}}, "line 2: it has no file_name"),
        ({"file_name": "b.png"}, r"there is no file .*b\.png"),
        (
            {"file_name": "a.png", "objects": {"bbox": BOXES, "category": ["fox"]}},
            "line 2: it has 2 boxes and 1 classes",
        ),
        ({"file_name": "a.png", "objects": {"bbox": [[1, 2]], "category": ["fox"]}}, "line 2, object 0"),
        (
            {"file_name": "a.png", "objects": {"bbox": [[1, 2, 50, 2]], "category": ["fox"]}},
            "line 2, object 0: .* exceeds",
        ),
    ],
)
def test_a_broken_row_is_named(tmp_path, row, message):
    write_folder(tmp_path, {"file_name": "a.png", "objects": {"bbox": BOXES, "category": ["fox", "fox"]}}, row)
    with pytest.raises(DatasetError, match=message):
        open_split(tmp_path)


def test_a_line_that_is_no_json(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("{\n")
    with pytest.raises(DatasetError, match="line 1 is not JSON"):
        open_split(tmp_path)
