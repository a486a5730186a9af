"""Index a folder, change the folder, search with small images."""

import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf

from featlift.checkpoints import load, save
from featlift.cli.main import main
from featlift.commands.search import SearchOptions, index, lift, search
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.generator import ResidualGenerator

EMBEDDER = EmbedderConfig("gist", input_size=64)


@pytest.fixture
def folder(tmp_path):
    write_synthetic_landmarks(tmp_path / "images", num_landmarks=4, gallery_views=2, query_views=1, image_size=48)
    return tmp_path / "images" / "gallery"


@pytest.mark.parametrize("index_type", ["", "ivf-flat"])
def test_an_image_finds_itself_and_the_sheet_is_written(tmp_path, folder, index_type):
    if index_type:
        pytest.importorskip("faiss")
    index(str(folder), str(tmp_path / "index"), EMBEDDER, index_type)
    G = ResidualGenerator(576, 16)
    torch.nn.init.normal_(G.correction.weight, std=0.3)
    (tmp_path / "run").mkdir()
    save(G, tmp_path / "run" / "generator.safetensors")
    query = folder / "landmark-002" / "01.png"
    results = search(
        str(tmp_path / "index"), [str(query)], str(tmp_path / "run"), k=3, options=SearchOptions(index_type)
    )
    assert results["raw"].names[0][0] == "landmark-002/01.png"
    assert results["raw"].scores[0, 0].item() == pytest.approx(1, abs=1e-5)
    assert not torch.equal(results["raw"].scores, results["super-resolved"].scores)
    page = (tmp_path / "index" / "contact_sheet.html").read_text()
    assert page.count("data:image/png") == 1 + 3 + 3


def test_an_unknown_device_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match="Unknown device 'quantum'"):
        index(str(folder), str(tmp_path / "index"), EMBEDDER, device="quantum")
    assert not (tmp_path / "index").exists()
    index(str(folder), str(tmp_path / "index"), EMBEDDER, device="cpu")
    query = str(folder / "landmark-002" / "01.png")
    with pytest.raises(ValueError, match="Unknown device 'quantum'"):
        search(str(tmp_path / "index"), [query], options=SearchOptions(device="quantum"))


@pytest.fixture
def foreign(tmp_path):
    """Vectors of 60 images in a FAISS file made without FeatLift, and the same images at a quarter of the resolution."""
    faiss = pytest.importorskip("faiss")
    torch.manual_seed(0)
    high = nnf.normalize(torch.randn(60, 4) @ torch.randn(4, 16) + 0.3 * torch.randn(60, 16), dim=1)
    low = high.clone()
    low[:, :6] = 0.5 * low[:, :6] + 0.4  # what the low resolution takes away is the same for all
    arrays = {"low": nnf.normalize(low, dim=1).numpy(), "high": high.numpy()}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    index = faiss.IndexFlatIP(16)
    index.add(arrays["high"])
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    (tmp_path / "names.txt").write_text("".join(f"image {k}.jpg\n" for k in range(60)))
    return tmp_path


def test_vectors_of_any_encoder_are_trained_on_and_searched(foreign, capsys):
    pairs = f"{foreign / 'low.npy'},{foreign / 'high.npy'}"
    small = [
        "--hidden-dim",
        "32",
        "--steps",
        "150",
        "--batch-size",
        "32",
        "--regularization.rank",
        "0",
        "--device",
        "cpu",
    ]
    assert main(["train", "fsr-gan", "--vectors", pairs, "--run", str(foreign / "run"), *small]) == 0
    result = json.loads((foreign / "run" / "result.json").read_text())["result"]
    assert result["num_held_out"] == 6
    distance = {name: by_ratio["1.0"][0] for name, by_ratio in result["distance"].items()}
    assert distance["super-resolved"] < 0.8 * distance["raw"]
    capsys.readouterr()
    assert main(["evaluate", str(foreign / "run")]) == 0
    assert "6 held-out vectors" in capsys.readouterr().out

    run, low = str(foreign / "run"), foreign / "low.npy"
    lift(str(low), run, str(foreign / "out.npy"))
    fixed = torch.from_numpy(np.load(foreign / "out.npy"))
    G = load(foreign / "run" / "generator.safetensors").eval()
    vectors = torch.from_numpy(np.load(low))
    torch.testing.assert_close(fixed, nnf.normalize(G(vectors).detach(), dim=1))
    options = SearchOptions(names=str(foreign / "names.txt"))
    results = search(str(foreign / "x.faiss"), [str(low)], run, k=3, options=options)
    scores = fixed @ torch.from_numpy(np.load(foreign / "high.npy")).T
    best = scores.topk(3, dim=1).indices.tolist()
    assert results["super-resolved"].names == [[f"image {k}.jpg" for k in row] for row in best]
    written = json.loads((foreign / "x.results.json").read_text())
    assert written["raw"]["names"] == results["raw"].names


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["search", "x.faiss", "wide.npy"], "queries have 17 numbers"),
        (["search", "x.faiss", "low.npy", "--names", "short.txt"], "has 1 lines for 60 vectors"),
        (["lift", "wide.npy", "--generator", "G.safetensors"], "trained for another encoder"),
        (["lift", "none.npy", "--generator", "G.safetensors"], "There is no file none.npy"),
        (["train", "fsr-gan", "--vectors", "low.npy,wide.npy", "--run", "run"], "do not match"),
        (["train", "fsr-gan", "--vectors", "low.npy", "--run", "run"], "give two, LOW.npy,HIGH.npy"),
        (
            ["train", "fsr-gan", "--vectors", "low.npy,high.npy", "--generator", "conditioned", "--run", "run"],
            r"needs \[R, N, D\]",
        ),
    ],
)
def test_vectors_that_do_not_fit_are_explained(foreign, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(foreign)
    np.save("wide.npy", np.ones((60, 17), np.float32))
    (foreign / "short.txt").write_text("a\n")
    save(ResidualGenerator(16, 8), foreign / "G.safetensors")
    assert main(argv) != 0
    assert re.search(message, capsys.readouterr().err)
    assert not (foreign / "run").exists()
