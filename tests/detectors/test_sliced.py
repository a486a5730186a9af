from itertools import pairwise

import pytest
import torch
from torch import nn

from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.sliced import SlicedDetector, move_detections, slice_starts


class SpotFinder(nn.Module):
    """Finds the brightest pixels: a one-pixel box and mask on each, in torchvision's format; records the sizes of its input."""

    def __init__(self):
        super().__init__()
        self.transform = BatchTransform(torch.zeros(1, 3, 1, 1))
        self.input_sizes = []

    def forward(self, images):
        (image,) = images
        batch, _ = self.transform.eval()(images)
        self.input_sizes.append((tuple(image.shape[-2:]), tuple(batch.image_sizes[0])))
        rows, columns = (image[0] > 0.1).nonzero().unbind(1)
        masks = torch.zeros(len(rows), 1, *image.shape[-2:])
        masks[torch.arange(len(rows)), 0, rows, columns] = 1
        boxes = torch.stack((columns, rows, columns + 1, rows + 1), dim=1).float()
        labels = torch.ones(len(boxes), dtype=torch.int64)
        return [{"boxes": boxes, "labels": labels, "scores": image[0, rows, columns], "masks": masks}]


SPOTS = {(3, 5): 0.9, (50, 60): 0.5, (95, 127): 0.7, (47, 100): 0.3}


def make_image():
    image = torch.zeros(3, 96, 128)
    for (row, column), score in SPOTS.items():
        image[:, row, column] = score
    return image


def test_each_spot_is_found_once_where_it_is():
    finder = SpotFinder()
    usual = finder.transform
    (detections,) = SlicedDetector(finder, 48, scale=2.0).eval()([make_image()])
    found = {(int(b[1]), int(b[0])): float(s) for b, s in zip(detections["boxes"], detections["scores"], strict=True)}
    assert found == pytest.approx(SPOTS)
    assert detections["scores"].tolist() == sorted(found.values(), reverse=True)
    assert detections["masks"].shape == (4, 1, 96, 128)
    for box, mask in zip(detections["boxes"].int().tolist(), detections["masks"], strict=True):
        assert mask[0].nonzero().tolist() == [[box[1], box[0]]]
    whole, *slices = finder.input_sizes
    assert whole == ((96, 128), (96, 128))
    assert set(slices) == {((48, 48), (96, 96))}
    assert finder.transform is usual


def test_at_most_so_many_and_the_best():
    (detections,) = SlicedDetector(SpotFinder(), 48, max_detections=2).eval()([make_image()])
    assert detections["scores"].tolist() == pytest.approx([0.9, 0.7])


def test_an_image_that_fits_into_a_slice_is_not_sliced():
    finder = SpotFinder()
    (detections,) = SlicedDetector(finder, 128).eval()([torch.zeros(3, 60, 60)])
    assert finder.input_sizes == [((60, 60), (60, 60))]
    assert detections["boxes"].shape == (0, 4)


@pytest.mark.parametrize(("length", "size", "overlap"), [(100, 30, 0.2), (100, 30, 0.0), (31, 30, 0.5), (20, 30, 0.2)])
def test_slices_cover_every_pixel_and_share_the_overlap(length, size, overlap):
    starts = slice_starts(length, size, overlap)
    covered = {x for start in starts for x in range(start, min(start + size, length))}
    assert covered == set(range(length))
    assert all(b - a <= size - int(overlap * size) for a, b in pairwise(starts))
    assert starts[-1] == max(0, length - size)


def test_a_slice_is_moved_with_its_masks():
    detections = {"boxes": torch.tensor([[1.0, 2, 3, 4]]), "masks": torch.ones(1, 1, 4, 5)}
    moved = move_detections(detections, 10, 20, (30, 40))
    assert moved["boxes"].tolist() == [[11, 22, 13, 24]]
    expected = torch.zeros(1, 1, 30, 40)
    expected[..., 20:24, 10:15] = 1
    assert torch.equal(moved["masks"], expected)


def test_the_slices_are_those_of_sahi():
    """Positions of the slices, from the library of the paper's authors."""
    slicing = pytest.importorskip("sahi.slicing", exc_type=ImportError)
    ours = [
        [x, y, min(x + 48, 128), min(y + 48, 96)] for y in slice_starts(96, 48, 0.2) for x in slice_starts(128, 48, 0.2)
    ]
    theirs = slicing.get_slice_bboxes(96, 128, 48, 48, overlap_height_ratio=0.2, overlap_width_ratio=0.2)
    assert ours == theirs


@pytest.mark.parametrize(
    ("options", "message"), [((0,), "side of a slice"), ((9, 1.0), "overlap"), ((9, 0.2, 0), "scale")]
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        SlicedDetector(SpotFinder(), *options)


def test_training_mode_is_refused():
    with pytest.raises(RuntimeError, match="eval"):
        SlicedDetector(SpotFinder(), 9)([torch.zeros(3, 9, 9)])
