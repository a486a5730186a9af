import http.server
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from featlift.data.image_io import ImageReadError
from featlift.deployment.image_sources import ImageSource, VideoSource, find_images, find_sources

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / "d.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    return tmp_path


def names(folder, *sources):
    return [source.name.removeprefix(f"{folder}/") for source in find_sources([str(folder / each) for each in sources])]


def test_files_folders_and_patterns(folder):
    assert names(folder, "") == ["a.png", "b.png", "d.mp4", "sub/c.png"]
    assert names(folder, "sub", "a.png") == ["sub/c.png", "a.png"]
    assert names(folder, "*.png") == ["a.png", "b.png"]
    assert names(folder, "**/*.png") == ["a.png", "b.png", "sub/c.png"]
    assert names(folder, "*") == ["a.png", "b.png", "d.mp4"]
    assert [path.name for path in find_images([folder])] == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(("name", "message"), [("none.png", "does not exist"), ("*.bmp", "matches no image")])
def test_what_does_not_exist(folder, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        find_sources([str(folder / name)])


def test_a_folder_of_videos_only(folder):
    (folder / "videos").mkdir()
    (folder / "d.mp4").rename(folder / "videos/d.mp4")
    assert names(folder, "videos") == ["videos/d.mp4"]
    (folder / "videos/d.mp4").unlink()
    with pytest.raises(FileNotFoundError, match="contains no image"):
        find_sources(str(folder / "videos"))


def test_cameras_streams_and_urls():
    found = find_sources(["0", 1, "rtsp://host/stream", "http://host/a.jpg?size=3", "https://host/b.mp4"])
    assert [type(source) for source in found] == [VideoSource, VideoSource, VideoSource, ImageSource, VideoSource]
    assert [source.content for source in found[:2]] == [0, 1]


def test_images_in_memory_are_read():
    sources = find_sources([PIXELS, Image.fromarray(PIXELS), torch.from_numpy(PIXELS).permute(2, 0, 1)])
    assert [source.name for source in sources] == ["image-1", "image-2", "image-3"]
    images = [source.read() for source in sources]
    assert all(torch.equal(image, images[0]) for image in images)
    assert len(find_sources(PIXELS)) == 1


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(folder):
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: _Quiet(*args, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_an_image_behind_a_url(server, folder):
    (source,) = find_sources(f"{server}/a.png?x=1")
    assert torch.equal(source.read(), ImageSource("a", folder / "a.png").read())
    for path in ("none.png", "notes.txt"):
        with pytest.raises(ImageReadError, match=path):
            find_sources(f"{server}/{path}")[0].read()


def test_a_server_that_is_not_there():
    with pytest.raises(ImageReadError, match="cannot be loaded"):
        find_sources("http://127.0.0.1:1/a.png")[0].read()
