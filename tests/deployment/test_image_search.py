"""An index that is interrupted, changed and searched."""

import json
import os
import shlex
import time

import pytest
import torch
import torch.nn.functional as nnf
from PIL import Image

from featlift.checkpoints import save
from featlift.checkpoints.folder_lock import FolderLock
from featlift.cli.option_table import load_option_table
from featlift.cli.parser import parse_function_args
from featlift.commands.search import SearchOptions, index, search
from featlift.data.image_io import ImageReadError, list_images, read_image_crop
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.deployment.image_search import embed_queries
from featlift.retrieval.descriptors import downscale_then_resize
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.generator import ConditionedGenerator
from featlift.retrieval.index_embedder import load_embedder_config

EMBEDDER = EmbedderConfig("gist", input_size=64)


@pytest.fixture
def folder(tmp_path):
    write_synthetic_landmarks(tmp_path / "images", num_landmarks=4, gallery_views=2, query_views=1, image_size=48)
    return tmp_path / "images" / "gallery"


def test_indexing_again_sees_what_changed(tmp_path, folder):
    store = index(str(folder), str(tmp_path / "index"), EMBEDDER, chunk_size=3)
    assert sorted(name for name in store.names) == sorted(str(f.relative_to(folder)) for f in list_images(folder))
    (folder / "landmark-000" / "00.png").unlink()
    (folder / "landmark-001" / "01.png").rename(folder / "landmark-001" / "moved.png")
    again = index(str(folder), str(tmp_path / "index"))
    assert len(again) == 7
    assert "landmark-000/00.png" not in again
    assert "landmark-001/moved.png" in again


def test_an_interrupted_index_goes_on(tmp_path, folder, monkeypatch):
    import featlift.deployment.image_search as module

    read, files = module.read_image, []

    def dies(file, *options):
        files.append(file)
        if len(files) == 6:
            raise KeyboardInterrupt
        return read(file, *options)

    monkeypatch.setattr(module, "read_image", dies)
    with pytest.raises(KeyboardInterrupt):
        index(str(folder), str(tmp_path / "index"), EMBEDDER, chunk_size=2)
    assert len(index(str(folder), str(tmp_path / "index"), chunk_size=2)) == 8
    assert len(files) == 6 + 4  # two chunks of two were written


def test_a_changed_image_is_embedded_anew(tmp_path, folder, capsys):
    store = index(str(folder), str(tmp_path / "index"), EMBEDDER)
    before = store.take([store.row("landmark-000/00.png"), store.row("landmark-001/00.png")])
    (folder / "landmark-000" / "00.png").write_bytes((folder / "landmark-003" / "00.png").read_bytes())
    os.utime(folder / "landmark-001" / "00.png", (1, 1))  # touched, but the same
    store = index(str(folder), str(tmp_path / "index"))
    assert capsys.readouterr().out.splitlines()[-1].endswith("index: 8 images, 1 changed")
    names = ["landmark-000/00.png", "landmark-003/00.png", "landmark-001/00.png"]
    changed, same, touched = store.take([store.row(name) for name in names])
    assert torch.equal(changed, same)
    assert not torch.equal(changed, before[0])
    assert torch.equal(touched, before[1])


def test_broken_images_are_named_or_skipped(tmp_path, folder, capsys):
    index(str(folder), str(tmp_path / "index"), EMBEDDER)
    path = folder / "landmark-000" / "00.png"
    path.write_bytes(path.read_bytes()[:100])
    (folder / "1.jpg").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"1\.jpg .*\(--skip-broken skips unreadable images\)"):
        index(str(folder), str(tmp_path / "index"))
    store = index(str(folder), str(tmp_path / "index"), skip_broken=True)
    assert len(store) == 7, "the vector of the image that was there before is gone"
    printed = capsys.readouterr().out
    assert "7 images, 2 skipped" in printed
    assert "landmark-000/00.png: " in printed


def test_file_names_that_are_not_in_utf8(tmp_path, folder):
    name = os.fsdecode(b"caf\xe9.png")
    (folder / "landmark-000" / "00.png").rename(folder / name)
    assert name in index(str(folder), str(tmp_path / "index"), EMBEDDER)
    results = search(str(tmp_path / "index"), [str(folder / name)], k=2)
    assert results["raw"].names[0][0] == name
    assert (tmp_path / "index" / "contact_sheet.html").exists()


def test_a_search_among_some(tmp_path, folder):
    index(str(folder), str(tmp_path / "index"), EMBEDDER)
    query = str(folder / "landmark-002" / "01.png")
    found = search(str(tmp_path / "index"), [query], options=SearchOptions(where="name LIKE 'landmark-001/%'"))[
        "raw"
    ].names[0]
    assert sorted(found) == ["landmark-001/00.png", "landmark-001/01.png"]
    with pytest.raises(ValueError, match="--where"):
        search(str(tmp_path / "index"), [query], options=SearchOptions("flat", "name = 'a'"))


def test_two_processes_do_not_write_one_index(tmp_path, folder):
    index(str(folder), str(tmp_path / "index"), EMBEDDER)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with FolderLock(tmp_path / "index"):
            os.write(write, b"x")
            time.sleep(60)
        os._exit(0)
    os.read(read, 1)
    try:
        with pytest.raises(OSError, match=rf"is being written by another run \(process {pid} on"):
            index(str(folder), str(tmp_path / "index"))
        assert search(str(tmp_path / "index"), [str(folder / "landmark-002" / "01.png")])["raw"].names, "readers may"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_an_index_keeps_its_embedder(tmp_path, folder):
    index(str(folder), str(tmp_path / "index"), EMBEDDER)
    assert load_embedder_config(tmp_path / "index", None) == EMBEDDER
    assert json.loads((tmp_path / "index" / "embedder.json").read_text())["input_size"] == 64
    with pytest.raises(ValueError, match="another folder"):
        index(str(folder), str(tmp_path / "index"), EmbedderConfig("gist", input_size=96))


def test_a_search_tells_the_generator_the_ratio_of_its_training(tmp_path, folder, monkeypatch):
    index(str(folder), str(tmp_path / "index"), EMBEDDER)
    dimension = build_embedder(EMBEDDER)[1]
    save(
        ConditionedGenerator(dimension, 8, full_side=48.0), tmp_path / "generator.safetensors"
    )  # trained on images of 48 px
    image, files, told = Image.open(list_images(folder)[0]), [], []
    for ratio in (1, 2, 4):
        files.append(str(tmp_path / f"{ratio}.png"))
        image.resize((48 // ratio, 48 // ratio), Image.Resampling.BICUBIC).save(files[-1])
    monkeypatch.setattr(ConditionedGenerator, "forward", lambda self, x, ratio: told.extend(ratio.tolist()) or x)
    search(str(tmp_path / "index"), files, generator=str(tmp_path / "generator.safetensors"))
    assert told == [1, 2, 4]  # the embedder's input of 64 px would give 1.33, 2.67 and 5.33


def test_expanded_and_multi_scale_queries(tmp_path, folder):
    store = index(str(folder), str(tmp_path / "index"), EMBEDDER)
    file = list_images(folder)[3]
    embedder, image = build_embedder(EMBEDDER)[0], read_image_crop(file)
    query = embedder(downscale_then_resize(image, 1, 64)[None])
    rows = (vectors := store.take([store.row(name) for name in store.names])) @ query[0]
    best = rows.topk(2)
    expanded = nnf.normalize(query[0] + (best.values[:, None] ** 3 * vectors[best.indices]).sum(dim=0), dim=0)
    found = search(str(tmp_path / "index"), [str(file)], k=8, options=SearchOptions(expand=2))["raw"]
    torch.testing.assert_close(found.scores[0], (vectors @ expanded).sort(descending=True).values, atol=1e-5, rtol=0)
    both = nnf.normalize(query + embedder(downscale_then_resize(image, 1, 32)[None]), dim=1)
    torch.testing.assert_close(embed_queries(embedder, [file], (1.0, 0.5))[0], both)


def test_errors_say_what_to_do(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="featlift index"):
        search(str(tmp_path), ["a.png"])
    index(str(folder), str(tmp_path / "index"), EMBEDDER)
    with pytest.raises(FileNotFoundError, match="train fsr-gan"):
        search(str(tmp_path / "index"), [str(list_images(folder)[0])], generator=str(tmp_path))
    assert read_image_crop(list_images(folder)[0]).shape == (3, 48, 48)


def test_the_advised_command_is_one(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        search(str(tmp_path / "none"), ["a.png"])
    words = shlex.split(str(error.value).partition("Create one: ")[2])
    assert words[:2] == ["featlift", "index"]
    arguments = parse_function_args(index, load_option_table("index"), words[2:])
    assert (arguments["folder"], arguments["out"]) == ("IMAGES", str(tmp_path / "none"))


def test_a_query_above_the_limit_is_refused_with_the_option(folder):
    file = list_images(folder)[0]
    embedder = build_embedder(EMBEDDER)[0]
    with pytest.raises(ImageReadError, match="--max-pixels 2304"):
        embed_queries(embedder, [file], max_pixels=48 * 48 - 1)
    assert embed_queries(embedder, [file], max_pixels=48 * 48)[1] == [48]


def test_fast_decoding_changes_descriptors_slightly_and_is_kept_by_the_index(tmp_path):
    write_synthetic_landmarks(tmp_path / "images", num_landmarks=3, gallery_views=1, query_views=0, image_size=256)
    photographs, queries = tmp_path / "photographs", []
    photographs.mkdir()
    for file in list_images(tmp_path / "images" / "gallery"):
        queries.append(photographs / f"{file.parent.name}.jpg")
        Image.open(file).save(queries[-1], quality=95)
    fast = EmbedderConfig("gist", input_size=64, fast_decode=True)
    stores = {
        config.fast_decode: index(str(photographs), str(tmp_path / f"index-{config.fast_decode}"), config)
        for config in (EMBEDDER, fast)
    }
    names = [query.name for query in queries]
    full, reduced = (store.take([store.row(name) for name in names]) for store in stores.values())
    assert not torch.equal(full, reduced)
    assert (full * reduced).sum(1).min() > 0.99
    assert stores[False].fingerprint != stores[True].fingerprint
    found = search(str(tmp_path / "index-True"), list(map(str, queries)))["raw"]
    assert [row[0] for row in found.names] == names
    torch.testing.assert_close(found.scores[:, 0], torch.ones(3), atol=1e-5, rtol=0)  # queries are decoded alike
    with pytest.raises(ValueError, match="fast_decode=True"):
        index(str(photographs), str(tmp_path / "index-True"), EMBEDDER)


def test_short_sides_are_those_of_the_files_with_fast_decoding(tmp_path):
    Image.effect_noise((256, 320), 50).convert("RGB").save(tmp_path / "a.jpg")
    F, _ = build_embedder(EmbedderConfig("gist", input_size=64, fast_decode=True))
    assert embed_queries(F, [tmp_path / "a.jpg"], (1.0, 1.5))[1] == [256]
