import json
from dataclasses import asdict, replace

from featlift.checkpoints import save
from featlift.data.config import DataConfig
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import build_detector, quick_detector_config
from featlift.image_sr import super_resolver
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE
from featlift.papers.fdsr.evaluation import SRDetectionConfig, evaluate_sr_detection, format_sr_detection


def small_detector(folder):
    model = replace(quick_detector_config(), pyramid_channels=16, detector_options={"fc_dim": 32, "num_proposals": 20})
    return save_detector(build_detector(model, 6), model, SyntheticScenes(2).classes, folder)


def test_results_are_written(tmp_path):
    detector = tmp_path / "detector"
    small_detector(detector)
    data = asdict(DataConfig("scenes", num_scenes=1, num_val_scenes=2, scene_size=64))
    (detector / "settings.json").write_text(json.dumps({"data": data}))
    save(super_resolver("srcnn", 4), tmp_path / "sr" / SUPER_RESOLVER_FILE)
    config = SRDetectionConfig(
        str(detector), {"srcnn": str(tmp_path / "sr")}, downscale_sweep=(2, 4), num_quality_images=1, num_examples=1
    )
    results = evaluate_sr_detection(config, tmp_path / "out")
    assert (
        json.loads((tmp_path / "out" / "sr_detection.json").read_text())["pipelines"].keys()
        == results["pipelines"].keys()
    )
    assert list(results["pipelines"]) == ["bicubic", "srcnn", "original"]
    assert (tmp_path / "out" / "robustness.png").exists()
    assert len(list((tmp_path / "out").glob("image-*.png"))) == 1


def test_table_in_per_cent():
    metrics = {"ap": 0.25, "ap50": 0.5, "ap75": 0.1, "ap_small": None, "ap_medium": 0.3, "ap_large": 0.4}
    rows = {
        "bicubic": {"metrics": metrics, "quality": {"psnr_y": 25.891, "fsim": 0.98721}},
        "original": {"metrics": metrics},
    }
    lines = format_sr_detection(rows).splitlines()
    assert lines[1].split() == ["bicubic", "25.0", "50.0", "10.0", "–", "30.0", "40.0", "25.89", "0.9872"]
    assert lines[2].split() == ["original", "25.0", "50.0", "10.0", "–", "30.0", "40.0"]
