from dataclasses import replace

import pytest

from featlift.papers.registry import PAPERS
from featlift.runs.announce import (
    announce_training,
    check_start_files,
    describe_image_size,
    stages_to_run,
)


def describe_training(paper, settings, device):
    return announce_training(paper, PAPERS[paper].describe(settings, ""), device)


@pytest.fixture
def detector_run(tmp_path, monkeypatch):
    """Working directory with the run folder that FDSR's quick preset names."""
    (tmp_path / "runs" / "detector").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def preset(paper, name):
    """The preset ``name``; FDSR's without its evaluation, which needs a trained detector and its images."""
    settings = PAPERS[paper].preset(name)
    return replace(settings, evaluation=replace(settings.evaluation, detector="none")) if paper == "fdsr" else settings


def quick(paper):
    return preset(paper, "quick")


def test_one_line_says_what_is_trained(coco):
    settings = quick("afi-gan")
    settings = replace(settings, data=replace(settings.data, root=str(coco), min_size=(640, 800), batch_size=4))
    line = describe_training("afi-gan", settings, "cuda")
    assert line.startswith("AFI-GAN: faster-rcnn, resnet10t (random weights), fpn + afi (")
    assert f" M parameters) on {coco} (" in line
    assert line.endswith("images 640–800 px, 4 stages, 800 steps of 4 images, on cuda")


@pytest.mark.parametrize(
    ("paper", "parts"),
    [
        ("baseline", ["baseline: ", "built-in scenes (800 images, ", "images 160 px, 600 steps of 8 images"]),
        ("light", ["light: ", "fpn + light", "3 stages, 1,000 steps"]),
        ("efpn", ["EFPN: ", "3 stages, 900 steps"]),
        ("srf-gan", ["SRF-GAN: ", "fpn + srf"]),
        (
            "fdsr",
            ["FDSR: compact 4x (random weights), features c4 of runs/detector on built-in scenes, crops of 96 px"],
        ),
        ("fsr-gan", ["FSR-GAN: residual generator, gist descriptors of 128 px", "400 steps of 64 descriptor pairs"]),
    ],
)
@pytest.mark.usefixtures("detector_run")
def test_every_paper_is_described(paper, parts):
    line = describe_training(paper, quick(paper), "cpu")
    assert "\n" not in line
    for part in [*parts, ", on cpu"]:
        assert part in line


def test_pretrained_weights_are_named_without_a_download():
    settings = PAPERS["baseline"].preset("finetune")
    settings = replace(settings, data=quick("baseline").data)
    assert "faster-rcnn, resnet50 (ImageNet weights), fpn + nearest (41." in describe_training(
        "baseline", settings, "cpu"
    )


def test_settings_that_cannot_work_are_refused():
    settings = quick("baseline")
    wrong = replace(settings, model=replace(settings.model, detector_options={"charm": 3}))
    with pytest.raises(ValueError, match="charm"):
        describe_training("baseline", wrong, "cpu")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        describe_training("baseline", replace(settings, data=replace(settings.data, root="nowhere")), "cpu")


def test_files_to_start_from_must_exist(tmp_path):
    check_start_files(replace(quick("afi-gan"), teacher_from=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match="--teacher-from names nowhere"):
        check_start_files(replace(quick("afi-gan"), teacher_from="nowhere"))
    with pytest.raises(FileNotFoundError, match="--teachers-from names nowhere"):
        check_start_files(replace(quick("light"), teachers_from=(str(tmp_path), "nowhere")))


@pytest.mark.parametrize(
    ("changes", "stop_after", "stages"),
    [
        ({}, "target", ["teacher", "interpolator", "extractor", "target"]),
        ({}, "interpolator", ["teacher", "interpolator"]),
        ({"teacher_from": "a"}, "", ["interpolator", "extractor", "target"]),
        ({"interpolator_from": "a"}, "", ["teacher", "extractor", "target"]),
        ({"extractor_from": "a"}, "", ["target"]),
    ],
)
def test_stages_that_run(changes, stop_after, stages):
    assert list(stages_to_run(replace(quick("afi-gan"), **changes), stop_after)) == stages


@pytest.mark.parametrize(
    ("root", "sizes", "text"),
    [
        ("scenes", (), "images 160 px"),
        ("folder", (), "images at their own size"),
        ("folder", (800,), "images 800 px"),
        ("folder", (800, 640), "images 640–800 px"),
    ],
)
def test_image_sizes(root, sizes, text):
    assert describe_image_size(replace(quick("baseline").data, root=root, min_size=sizes)) == text


def test_random_weights_on_ones_own_images_are_a_warning(coco):
    settings = replace(quick("baseline"), data=replace(quick("baseline").data, root=str(coco)))
    with pytest.warns(UserWarning, match="--preset finetune"):
        describe_training("baseline", settings, "cpu")


def test_random_weights_where_the_paper_has_div2k_are_a_warning():
    with pytest.warns(UserWarning, match="--network.weights FILE"):
        describe_training("fdsr", preset("fdsr", "paper"), "cpu")


@pytest.mark.parametrize("paper", ["baseline", "afi-gan", "fdsr", "fsr-gan"])
@pytest.mark.usefixtures("detector_run")
def test_no_warning_where_random_weights_are_meant(paper, recwarn):
    describe_training(paper, quick(paper), "cpu")
    assert not recwarn


def test_a_feature_extractor_that_is_no_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no run folder runs/detector; train one with featlift train baseline"):
        describe_training("fdsr", quick("fdsr"), "cpu")
