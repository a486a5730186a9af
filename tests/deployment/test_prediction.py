import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from featlift.deployment.image_sources import find_sources
from featlift.deployment.prediction import PredictionOptions, predict_sources
from featlift.deployment.predictor import Predictor


class Corner(nn.Module):
    """Detects one object in the upper left corner, and one with a low score."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        boxes = torch.tensor([[0.0, 0.0, 10.0, 8.0], [5.0, 5.0, 9.0, 9.0]])
        return [{"boxes": boxes, "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.9, 0.1])} for _ in images]


@pytest.fixture
def predictor():
    return Predictor(Corner(), device="cpu", classes=["cat"])


@pytest.fixture
def folder(tmp_path):
    for name in ("cam0/1.png", "cam1/1.png", "cam1/1.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(path)
    return tmp_path / "images"


def run(predictor, sources, out, **options):
    return predict_sources(predictor, find_sources(sources), out, PredictionOptions(**options))


def load(out, name="predictions.json"):
    return json.loads((out / name).read_text())


def test_equal_names_do_not_collide(predictor, folder, tmp_path):
    counts = run(predictor, str(folder), tmp_path / "out", save_txt=True)
    assert (counts.num_images, counts.num_detections) == (3, 6)
    stems = ["cam0_1", "cam1_1", "cam1_1-2"]
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.png")) == stems
    assert sorted(path.stem for path in (tmp_path / "out/labels").iterdir()) == stems
    assert (tmp_path / "out/labels/cam0_1.txt").read_text() == "0 0.25 0.25 0.5 0.5\n"
    assert len(load(tmp_path / "out", "results.json")) == 6
    assert np.asarray(Image.open(tmp_path / "out/cam0_1.png")).any()


def test_what_is_written_can_be_chosen(predictor, folder, tmp_path):
    run(
        predictor,
        str(folder / "cam0"),
        tmp_path / "out",
        draw=False,
        save_txt=True,
        save_conf=True,
        score_threshold=0.0,
    )
    assert not list((tmp_path / "out").glob("*.png"))
    assert (tmp_path / "out/labels/1.txt").read_text().splitlines()[0] == "0 0.25 0.25 0.5 0.5 0.9"


def test_a_video_is_drawn_frame_by_frame(predictor, tmp_path):
    pytest.importorskip("av")
    from featlift.deployment.video import VideoWriter, read_frames, read_video_info

    with VideoWriter(tmp_path / "v.mp4") as writer:
        for _ in range(7):
            writer.write(torch.zeros(3, 32, 48, dtype=torch.uint8))
    run(predictor, str(tmp_path / "v.mp4"), tmp_path / "out", frame_step=2, save_txt=True)
    content = load(tmp_path / "out")
    assert [image["file_name"].rpartition("#")[2] for image in content["images"]] == [
        f"frame={k}" for k in (0, 2, 4, 6)
    ]
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == [
        f"v_00000{k}.txt" for k in (0, 2, 4, 6)
    ]
    assert read_video_info(str(tmp_path / "out/v.mp4")).rate == pytest.approx(12.5)
    frames = [frame for _, frame in read_frames(str(tmp_path / "out/v.mp4"))]
    assert len(frames) == 4
    assert frames[0][:, :10, :12].float().mean() > 10 * frames[0][:, 20:, 24:].float().mean()
    assert run(predictor, str(tmp_path / "v.mp4"), tmp_path / "few", max_frames=3, draw=False).num_images == 3


def test_ctrl_c_keeps_what_was_predicted(predictor, folder, tmp_path, monkeypatch, capsys):
    calls = []

    def interrupted(images):
        calls.append(images)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return Corner()(images)

    monkeypatch.setattr(predictor, "_detector", _Call(interrupted))
    counts = run(predictor, str(folder), tmp_path / "out")
    assert counts.num_images == len(load(tmp_path / "out")["images"]) == 1
    assert "stopped" in capsys.readouterr().out


class _Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.zeros(1)), function

    def forward(self, images):
        return self.function(images)


def test_memory_does_not_grow_with_the_number_of_images(predictor, tmp_path):
    """A generator of frames: at most two images are alive while 12 are predicted."""
    import gc
    import weakref

    gc.freeze()  # collects only what is made below

    Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(tmp_path / "a.png")
    alive = []
    stream = predictor.stream([str(tmp_path / "a.png")] * 12)
    for prediction in stream:
        alive.append(weakref.ref(prediction.image))
        gc.collect()
        assert sum(reference() is not None for reference in alive) <= 2


@pytest.mark.parametrize("options", [{"score_threshold": 2}, {"frame_step": 0}, {"max_frames": -1}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="--"):
        PredictionOptions(**options)
