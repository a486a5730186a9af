"""Images decoded at a reduced size against images decoded in full: the same boxes, masks and random draws, nearly the same pixels."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.config import DataConfig, build_train_loader
from featlift.data.reduced_images import ReducedImages, reduce_images
from featlift.data.synthetic.scenes import SyntheticScenes

SIZES = [(160, 288, 1), (321, 203, 1), (203, 321, 6), (90, 70, 1)]
"""Upright height and width, and EXIF orientation; the last image is too small to be reduced."""


@pytest.fixture
def dataset(tmp_path):
    """Smooth photographs with two objects and an ignored region each."""
    rng, images, objects = np.random.default_rng(0), [], []
    for number, (height, width, orientation) in enumerate(SIZES, start=1):
        noise = Image.fromarray(rng.integers(0, 256, (height // 32, width // 32, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = noise.resize((width, height), Image.Resampling.BICUBIC)
        stored = upright.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else upright
        stored.save(tmp_path / f"{number}.jpg", quality=95, exif=exif)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
        for k, (left, top, side) in enumerate([(5, 9, 30), (31, 20, 37.5), (2, 50, 11)]):
            outline = [left, top, left + side, top, left + side, top + side, left, top + side]
            objects.append({
                "id": len(objects) + 1, "image_id": number, "category_id": 1, "bbox": [left, top, side, side], "area": side**2,
                "iscrowd": 0, "ignore": int(k == 2), "segmentation": [outline],
            })  # fmt: skip
    document = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    return CocoDataset(tmp_path / "instances.json", tmp_path)


@pytest.mark.parametrize("sizes", [((40,), 300), ((30, 40, 64), 1333), ((80,), 90), ((500,), 1333)])
@pytest.mark.parametrize("options", [{}, {"crop_size": 32}, {"with_masks": False}])
def test_training_batches_differ_in_pixels_only_and_little(dataset, sizes, options):
    full = DataConfig(batch_size=2, min_size=sizes[0], max_size=sizes[1], num_workers=0, **options)
    loaders = [build_train_loader(config, dataset, 3) for config in (full, replace(full, fast_decode=True))]
    assert loaders[0].fingerprint == loaders[1].fingerprint
    for _, whole, reduced in zip(range(6), *(loader.iter_from(0) for loader in loaders), strict=False):
        for image, small, target, small_target in zip(whole[0], reduced[0], whole[1], reduced[1], strict=True):
            assert small.shape == image.shape
            assert (small - image).abs().mean() < 0.03
            assert list(small_target) == list(target)
            assert all(torch.equal(small_target[name], value) for name, value in target.items())


@pytest.mark.parametrize(
    ("min_size", "max_size", "shapes"),
    [
        ([10, 20], 1333, [(20, 36), (41, 26), (26, 41), (45, 35)]),  # 1/8, 1/8 and 1/2, rounded up
        ([30, 40], 1333, [(40, 72), (81, 51), (51, 81), (90, 70)]),
        ([100], 150, [(160, 288), (161, 102), (102, 161), (90, 70)]),  # the long side is 150: short sides of 83 and 95
        ([160], 1333, [(160, 288), (321, 203), (203, 321), (90, 70)]),
    ],
)
def test_images_are_reduced_while_every_size_only_reduces_them(dataset, min_size, max_size, shapes):
    images = ReducedImages(dataset, min_size, max_size)
    assert [tuple(images[index][0].shape[-2:]) for index in range(len(images))] == shapes
    assert [images.image_size(index) for index in range(len(images))] == [size[:2] for size in SIZES]


def test_a_half_size_view_is_of_the_reduced_image(dataset):
    config = DataConfig(batch_size=4, min_size=(40,), max_size=300, num_workers=0)
    views = [
        next(build_train_loader(replace(config, fast_decode=fast), dataset, 0, with_half_size=True).iter_from(0))[1]
        for fast in (False, True)
    ]
    for full, reduced in zip(*views, strict=True):
        assert reduced["downscaled"].shape == full["downscaled"].shape
        assert (reduced["downscaled"] - full["downscaled"]).abs().mean() < 0.02


def test_what_cannot_be_decoded_at_a_reduced_size_is_refused():
    with pytest.raises(ValueError, match="SyntheticScenes are not files"):
        reduce_images(SyntheticScenes(2), [40], 100)
    with pytest.raises(ValueError, match=r"--data\.fast-decode needs"):
        DataConfig(min_size=(), fast_decode=True)
