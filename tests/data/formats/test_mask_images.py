import numpy as np
import pytest
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.formats.mask_images import is_mask_images, list_mask_splits, read_mask_split, read_mask_values
from featlift.data.problems import DatasetError

VALUES = np.zeros((40, 50), np.uint8)
VALUES[5:15, 10:30] = 1
VALUES[20:22, 40:45] = 200


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array, mode).save(path)


def open_split(root, split="train", skip_broken=False):
    return CocoDataset.from_source(read_mask_split(root, split), skip_broken)


def write(folder, values=VALUES, mask="masks/a.png"):
    save(folder / "images/a.jpg", np.zeros((40, 50, 3), np.uint8))
    save(folder / mask, values)
    return folder


def test_every_value_is_an_object(tmp_path):
    dataset = open_split(write(tmp_path))
    target = dataset[0][1]
    assert dataset.classes == ["object"]
    assert target["boxes"].tolist() == [[10, 5, 30, 15], [40, 20, 45, 22]]
    assert [(mask == 1).numpy().tolist() for mask in target["masks"]] == [(v == VALUES).tolist() for v in (1, 200)]
    assert target["area"].tolist() == [200, 10]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_values_of_gray_images(tmp_path, dtype):
    values = VALUES.astype(dtype) * (1 if dtype == np.uint8 else 300)
    save(tmp_path / "m.png" if dtype != np.int32 else tmp_path / "m.tif", values)
    assert (read_mask_values(next(tmp_path.glob("m.*"))) == values).all()


def test_colors_and_palettes(tmp_path):
    colors = np.zeros((40, 50, 3), np.uint8)
    colors[5:15, 10:30] = (1, 2, 3)
    assert set(np.unique(read_mask_values(_saved(tmp_path / "c.png", Image.fromarray(colors))))) == {0, 66051}
    palette = Image.fromarray(VALUES, "P")
    palette.putpalette([255, 0, 0] * 256)
    assert (read_mask_values(_saved(tmp_path / "p.png", palette)) == VALUES).all()


def _saved(path, image):
    image.save(path)
    return path


def test_a_folder_per_class(tmp_path):
    write(tmp_path / "train", VALUES, "masks/fox/a.png")
    write(tmp_path / "val", VALUES, "masks/cat/a.png")
    assert list_mask_splits(tmp_path) == ["train", "val"]
    assert is_mask_images(tmp_path)
    assert open_split(tmp_path).classes == open_split(tmp_path, "val").classes == ["cat", "fox"]
    assert open_split(tmp_path)[0][1]["labels"].tolist() == [2, 2]


def test_a_mask_file_per_object(tmp_path):
    """The Data Science Bowl 2018."""
    for value in (1, 200):
        save(tmp_path / f"x/masks/{value}.png", (value == VALUES).astype(np.uint8) * 255)
    save(tmp_path / "x/images/x.png", np.zeros((40, 50, 3), np.uint8))
    assert open_split(tmp_path)[0][1]["boxes"].tolist() == [[10, 5, 30, 15], [40, 20, 45, 22]]


def test_penn_fudan(tmp_path):
    save(tmp_path / "PNGImages/F1.png", np.zeros((40, 50, 3), np.uint8))
    save(tmp_path / "PedMasks/F1_mask.png", VALUES)
    assert len(open_split(tmp_path)[0][1]["boxes"]) == 2


def test_an_image_without_a_mask_is_counted(tmp_path):
    write(tmp_path)
    save(tmp_path / "images/b.jpg", np.zeros((40, 50, 3), np.uint8))
    assert "1 images have no mask file" in str(open_split(tmp_path).report)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [("masks/a.png", VALUES[:20], "it has 50x20 pixels"), ("masks/z.png", VALUES, "no image of this name")],
)
def test_what_does_not_fit_is_named(tmp_path, name, values, message):
    write(tmp_path)
    save(tmp_path / name, values)
    with pytest.raises(DatasetError, match=name) as error:
        open_split(tmp_path)
    assert message in str(error.value)


def test_a_broken_mask_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "masks/a.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"masks/a\.png: it cannot be read"):
        open_split(tmp_path)
