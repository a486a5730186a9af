from fractions import Fraction

import pytest
import torch

pytest.importorskip("av")

from featlift.deployment.video import VideoWriter, read_camera, read_frames, read_video_info


@pytest.fixture
def video(tmp_path):
    """Ten gray frames of 33x47 pixels, each brighter than the one before."""
    path = tmp_path / "gray.mp4"
    with VideoWriter(path, Fraction(10)) as writer:
        for number in range(10):
            writer.write(torch.full((3, 33, 47), 20 * number, dtype=torch.uint8))
    return path


def means(frames):
    return [(number, frame[:, :33, :47].float().mean().item()) for number, frame in frames]


def test_what_is_written_is_read(video):
    info = read_video_info(str(video))
    assert (info.num_frames, info.rate) == (10, 10)
    frames = means(read_frames(str(video)))
    assert [number for number, _ in frames] == list(range(10))
    assert [mean for _, mean in frames] == pytest.approx([20 * number for number in range(10)], abs=6)
    assert next(iter(read_frames(str(video))))[1].shape == (3, 34, 48)


def test_every_third_frame(video):
    assert [number for number, _ in read_frames(str(video), 3)] == [0, 3, 6, 9]


def test_a_camera_is_read_until_it_ends(video):
    """OpenCV opens a video like a camera."""
    pytest.importorskip("cv2")
    frames = means(read_camera(str(video), 2))
    assert [number for number, _ in frames] == [0, 2, 4, 6, 8]
    assert [mean for _, mean in frames] == pytest.approx([0, 40, 80, 120, 160], abs=6)


def test_no_camera():
    pytest.importorskip("cv2")
    with pytest.raises(ValueError, match="Camera 77 cannot be opened"):
        next(read_camera(77))


def test_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"a\.mp4 is no readable video"):
        read_video_info(str(tmp_path / "a.mp4"))
