"""Sliced inference with a detector that records its inputs: slices, their size, and the position of boxes."""

import pytest
import torch
from sliced_inference import SAHIDetector, SliceDetector
from torch import nn

from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.detectors.batch_transform import BatchTransform

CLASSES = ["spot", "other"]


class SpotFinder(nn.Module):
    """Finds the brightest pixels: a one-pixel box on each, in torchvision's format."""

    def __init__(self):
        super().__init__()
        self.transform = BatchTransform(torch.zeros(1, 3, 1, 1))
        self.input_sizes = []

    def forward(self, images):
        (image,) = images
        batch, _ = self.transform.eval()(images)
        self.input_sizes.append((tuple(image.shape[-2:]), tuple(batch.image_sizes[0])))
        rows, columns = (image[0] > 0.9).nonzero().unbind(1)
        boxes = torch.stack((columns, rows, columns + 1, rows + 1), dim=1).float()
        return [
            {
                "boxes": boxes,
                "labels": torch.ones(len(boxes), dtype=torch.int64),
                "scores": torch.full((len(boxes),), 0.3),
            }
        ]


def test_each_spot_is_found_once_where_it_is():
    pytest.importorskip("cv2", exc_type=ImportError)  # sahi draws with it, and its wheel needs libGL
    image = torch.zeros(3, 96, 128)
    spots = [(3, 5), (50, 60), (95, 127), (47, 100)]
    for row, column in spots:
        image[:, row, column] = 1
    finder = SpotFinder()
    (detections,) = SAHIDetector(finder, CLASSES, slice_size=48)([image])
    assert {(int(b[1]), int(b[0])) for b in detections["boxes"]} == set(spots)
    assert len(detections["boxes"]) == len(spots)
    assert detections["labels"].tolist() == [1] * len(spots)
    torch.testing.assert_close(detections["scores"], torch.full((len(spots),), 0.3))
    *slices, whole = finder.input_sizes
    assert whole == ((96, 128), (96, 128))
    assert set(slices) == {((48, 48), (96, 96))}


def test_an_image_without_objects():
    pytest.importorskip("cv2", exc_type=ImportError)  # sahi draws with it, and its wheel needs libGL
    (detections,) = SAHIDetector(SpotFinder(), CLASSES, slice_size=48)([torch.zeros(3, 60, 60)])
    assert {name: tuple(value.shape) for name, value in detections.items()} == {
        "boxes": (0, 4),
        "labels": (0,),
        "scores": (0,),
    }


def test_at_most_so_many_and_the_best():
    pytest.importorskip("cv2", exc_type=ImportError)  # sahi draws with it, and its wheel needs libGL

    class Graded(SpotFinder):
        def forward(self, images):
            detections = super().forward(images)
            detections[0]["scores"] = torch.linspace(0.2, 0.9, len(detections[0]["boxes"]))
            return detections

    image = torch.zeros(3, 40, 40)
    image[:, ::10, ::10] = 1
    (detections,) = SAHIDetector(Graded(), CLASSES, slice_size=64, max_detections=5)([image])
    assert len(detections["boxes"]) == 5
    assert detections["scores"].min() > 0.6


def test_only_slices_are_upscaled_and_the_detector_is_unchanged():
    finder = SpotFinder()
    usual = finder.transform
    slice_detector = SliceDetector(finder, 64, 3.0)
    for size in [(64, 32), (65, 32)]:
        slice_detector([SyntheticScenes(1, (96, 96))[0][0][:, : size[0], : size[1]]])
    assert finder.input_sizes == [((64, 32), (192, 96)), ((65, 32), (65, 32))]
    assert finder.transform is usual
