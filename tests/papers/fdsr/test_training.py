import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from featlift.data.crops import select_large_images
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.detectors.checkpoint import load_detector, save_detector
from featlift.detectors.config import build_detector, quick_detector_config
from featlift.image_sr.checkpoint import load_super_resolver
from featlift.image_sr.degradation import BicubicDownscale, DegradationConfig, build_degradation
from featlift.image_sr.network import SuperResolverConfig, build_super_resolver
from featlift.papers import fdsr
from featlift.papers.fdsr.settings import CropDataConfig, FeatureExtractorConfig, LossWeights
from featlift.papers.fdsr.training import (
    build_crop_dataset,
    build_crop_loader,
    cross_quality_mix,
    fine_tune_detector,
    save_joint_detector,
)
from featlift.training import OptimizerConfig, Run
from featlift.training.schedules import StageConfig

ADAM = OptimizerConfig("adam", 1e-3, weight_decay=0.0)


@pytest.fixture
def detector_run(tmp_path):
    """A small detector with random weights in a run folder."""
    torch.manual_seed(0)
    model = replace(quick_detector_config(), pyramid_channels=16, detector_options={"fc_dim": 32, "num_proposals": 50})
    scenes = SyntheticScenes(4, (96, 96))
    detector = build_detector(model, len(scenes.classes))
    folder = tmp_path / "detector"
    folder.mkdir()
    save_detector(detector, model, scenes.classes, folder)
    return folder


def settings(detector_run, **changes):
    small = fdsr.Settings(
        network=SuperResolverConfig("edsr-baseline", 2, {"blocks": 1, "width": 8}),
        feature_extractor=FeatureExtractorConfig(str(detector_run), ("c3",)),
        data=CropDataConfig("scenes", crop_size=64, batch_size=2, num_images=4, num_workers=0),
        train=StageConfig(2, ADAM),
    )
    return replace(small, **changes)


def trained(settings, folder):
    with Run(folder, settings, device="cpu") as run:
        return fdsr.train(settings, run), run.read_log()


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(before, after):
    return {name for name, value in after.items() if not value.equal(before[name])}


def test_the_papers_defaults():
    paper = fdsr.Settings()
    assert (paper.loss_weights.pixels, paper.loss_weights.features, paper.loss_weights.power) == (0.5, 1.0, 2)
    assert (paper.network.name, paper.network.scale) == ("d-dbpn", 4)
    assert (paper.data.crop_size, paper.data.batch_size, paper.data.num_images) == (384, 8, 20_000)
    optimizer = paper.train.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.betas, optimizer.weight_decay) == ("adam", 1e-4, (0.9, 0.999), 0.0)
    assert paper.train.steps == 2_000_000
    assert paper.detector_optimizer is None


@pytest.mark.parametrize(
    "loss_weights",
    [
        LossWeights(pixels=1.0, features=0.0),
        LossWeights(pixels=0.0),
        LossWeights(0.0, 0.0, detection=1.0),
    ],
)
def test_each_term_alone_teaches_every_part_of_the_network(loss_weights, detector_run, tmp_path):
    config = settings(detector_run, loss_weights=loss_weights)
    torch.manual_seed(0)
    G, log = trained(config, tmp_path / "run")
    with Run(tmp_path / "start", config, device="cpu"):
        before = weights(build_super_resolver(config.network))
    assert moved(before, weights(G)) == set(before)
    named = {"pixels": loss_weights.pixels, "features": loss_weights.features, "detection": loss_weights.detection}
    assert {name for name in log[-1] if name in named} == {name for name, weight in named.items() if weight}


def test_the_detector_does_not_move_while_g_learns(detector_run, tmp_path):
    before = weights(load_detector(detector_run)[0])
    trained(settings(detector_run, loss_weights=LossWeights(detection=1.0)), tmp_path / "run")
    assert moved(before, weights(load_detector(detector_run)[0])) == set()


def test_saved_and_loaded(detector_run, tmp_path):
    G, _ = trained(settings(detector_run), tmp_path / "run")
    low = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(load_super_resolver(tmp_path / "run")(low), G.eval()(low), rtol=0, atol=0)


def test_the_features_come_nearer(detector_run, tmp_path):
    """A few steps of the feature term alone halve the distance of a random network's features."""
    config = settings(
        detector_run,
        loss_weights=LossWeights(pixels=0.0, scale_free=True),
        train=StageConfig(24, replace(ADAM, lr=3e-3)),
        data=CropDataConfig("scenes", crop_size=48, batch_size=2, num_images=4, num_workers=0),
    )
    with Run(tmp_path / "run", config, device="cpu", log_every=2) as run:
        fdsr.train(config, run)
        losses = [record["features"] for record in run.read_log("super_resolver")]
    assert losses[-1] < 0.5 * losses[0]


def test_joint_training_updates_both_and_saves_both(detector_run, tmp_path):
    config = settings(detector_run, detector_optimizer=ADAM)
    _, log = trained(config, tmp_path / "run")
    T, classes = load_detector(tmp_path / "run")
    learned = {name for name, p in T.named_parameters() if p.requires_grad}
    assert moved(weights(load_detector(detector_run)[0]), weights(T)) >= learned
    assert classes == SyntheticScenes(1).classes
    views = {name.split("_loss")[0] for name in log[-1] if "_loss" in name}
    assert views == {"upscaled", "original", "mixed"}


def test_cross_quality_mix_takes_whole_cells_of_both():
    torch.manual_seed(0)
    mixed = cross_quality_mix(torch.zeros(4, 3, 32, 32), torch.ones(4, 3, 32, 32), grid_size=4)
    patches = mixed.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    assert ((patches == 0).all(-1) | (patches == 1).all(-1)).all()
    assert 0.3 < mixed.mean() < 0.7
    assert mixed[:, :1].expand_as(mixed).equal(mixed)


def test_fine_tuning_moves_the_detector_and_not_the_preprocessing(detector_run, tmp_path):
    from featlift.detectors.super_resolved import DegradeAndUpscale

    T = load_detector(detector_run)[0]
    preprocess = DegradeAndUpscale(
        build_super_resolver(SuperResolverConfig("edsr-baseline", 2, {"blocks": 1, "width": 8})), 2
    )
    before, preprocess_before = weights(T), copy.deepcopy(preprocess.state_dict())
    config = settings(detector_run)
    with Run(tmp_path / "run", config, device="cpu") as run:
        fine_tune_detector(T, preprocess, build_crop_loader(config.data, 0), StageConfig(1, ADAM), run)
    assert moved(before, weights(T))
    assert moved(preprocess_before, preprocess.state_dict()) == set()
    save_joint_detector(T, str(detector_run), tmp_path)
    assert moved(weights(T), weights(load_detector(tmp_path)[0])) == set()


def test_crops_of_photographs_and_of_annotated_folders(tmp_path):
    rng = np.random.default_rng(0)
    for number, side in enumerate([50, 70, 90]):
        Image.fromarray(rng.integers(0, 255, (side, 80, 3), np.uint8)).save(tmp_path / f"{number}.png")
    images, _ = next(
        build_crop_loader(
            CropDataConfig(str(tmp_path), crop_size=64, batch_size=3, num_images=0, num_workers=0), 0
        ).iter_from(0)
    )
    assert [image.shape for image in images] == [(3, 64, 64)] * 3
    assert len(build_crop_dataset(CropDataConfig(str(tmp_path), crop_size=64), 0)) == 2
    assert len(select_large_images(SyntheticScenes(4, (64, 64)), 64)) == 4


def test_shrinking_is_the_papers():
    degrade = build_degradation(4, DegradationConfig())
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(degrade(images), BicubicDownscale(4)(images))
    assert len(build_degradation(4, DegradationConfig(blur_sigma=1.0, noise_sigma=0.1, jpeg_quality=50))) == 4
