import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from featlift.data.image_io import ImageReadError
from featlift.deployment.predictor import Prediction, Predictor


class Fixed(nn.Module):
    """Detects the same two objects in every image, which it remembers."""

    def __init__(self, with_masks=False):
        super().__init__()
        self.weight, self.images, self.with_masks = nn.Parameter(torch.zeros(1)), [], with_masks

    def forward(self, images):
        self.images += images
        found = {
            "boxes": torch.tensor([[1.0, 2.0, 11.0, 8.0], [0.0, 0.0, 4.0, 4.0]]),
            "labels": torch.tensor([2, 1]),
            "scores": torch.tensor([0.9, 0.25]),
        }
        if self.with_masks:
            found["masks"] = torch.zeros(2, 1, *images[0].shape[1:])
            found["masks"][0, 0, 2:8, 1:11] = 1
        return [found for _ in images]


@pytest.fixture
def predictor():
    return Predictor(Fixed(with_masks=True), device="cpu", classes=["cat", "fox"])


PIXELS = np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8)


def test_images_of_any_kind(predictor, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    kinds = [
        PIXELS,
        Image.fromarray(PIXELS),
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        torch.from_numpy(PIXELS).permute(2, 0, 1),
    ]
    for kind in kinds:
        assert isinstance(predictor(kind), Prediction)
    images = predictor.model.images
    assert all(torch.equal(image, images[0]) for image in images)
    assert [len(each) for each in (predictor(kinds), predictor(str(tmp_path)), predictor([PIXELS]))] == [5, 1, 1]


def test_names_and_threshold(predictor):
    prediction = predictor(PIXELS)
    assert prediction.class_names == ["fox", "cat"]
    assert prediction.above(0.5).class_names == ["fox"]
    assert len(Predictor(Fixed(), 0.5, "cpu", ["cat", "fox"])(PIXELS)) == 1


def test_coco_results(predictor):
    first, _ = predictor(PIXELS).to_coco(7)
    assert (first["image_id"], first["category_id"], first["bbox"]) == (7, 2, [1, 2, 10, 6])
    assert first["segmentation"]["size"] == [20, 40]


def test_supervision(predictor):
    pytest.importorskip("supervision")
    detections = predictor(PIXELS).to_supervision()
    assert detections.xyxy.tolist() == [[1, 2, 11, 8], [0, 0, 4, 4]]
    assert detections.class_id.tolist() == [1, 0]
    assert detections.confidence.tolist() == pytest.approx([0.9, 0.25])
    assert detections.mask.sum(axis=(1, 2)).tolist() == [60, 0]
    assert list(detections.data["class_name"]) == ["fox", "cat"]
    assert len(predictor(PIXELS).above(1.0).to_supervision()) == 0


def test_yolo_lines(predictor):
    assert predictor(PIXELS).to_yolo() == "1 0.15 0.25 0.25 0.3\n0 0.05 0.1 0.1 0.2\n"
    assert predictor(PIXELS).to_yolo(with_scores=True).splitlines()[0] == "1 0.15 0.25 0.25 0.3 0.9"


def test_drawing(predictor):
    drawn = predictor(PIXELS).draw()
    assert (drawn.shape, drawn.dtype) == ((3, 20, 40), torch.uint8)


def test_a_stream_is_read_one_at_a_time(predictor, tmp_path):
    """The second image does not exist until the first is predicted."""
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    Image.fromarray(PIXELS).save(tmp_path / "b.png")
    stream = predictor.stream([str(tmp_path / name) for name in ("a.png", "b.png")])
    next(stream)
    assert len(predictor.model.images) == 1
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageReadError, match=r"b\.png.*--skip-broken"):
        next(stream)
    *_, last = predictor.stream(str(tmp_path), skip_broken=True)
    assert "b.png" in last.error
    assert len(last) == 0


def test_frames_of_a_video(predictor, tmp_path):
    pytest.importorskip("av")
    from featlift.deployment.video import VideoWriter

    with VideoWriter(tmp_path / "v.mp4") as writer:
        for _ in range(5):
            writer.write(torch.zeros(3, 32, 48, dtype=torch.uint8))
    predictions = list(predictor.stream(str(tmp_path / "v.mp4"), frame_step=2))
    assert [prediction.name.rpartition("#")[2] for prediction in predictions] == ["frame=0", "frame=2", "frame=4"]
    assert predictions[0].image.shape == (3, 32, 48)
    with pytest.raises(ValueError, match=r"predictor\.stream"):
        predictor(str(tmp_path / "v.mp4"))


def test_a_detector_file(trained):
    predictor = Predictor(trained["nearest"], device="cpu")
    prediction = predictor(torch.rand(3, 64, 64))
    assert len(predictor.classes) == len(predictor.category_ids)
    assert prediction.boxes.shape == (len(prediction), 4)


def test_a_detector_without_class_names():
    with pytest.raises(ValueError, match="names of the classes"):
        Predictor(Fixed(), device="cpu")
