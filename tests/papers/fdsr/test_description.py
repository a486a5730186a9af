import pytest
from tests.papers.fdsr.test_evaluation import coco_folder, paper_settings

from featlift.papers.fdsr.description import describe_fdsr_training
from featlift.papers.fdsr.settings import EvaluationConfig


def test_network_features_crops_and_length_are_named(tmp_path):
    settings = paper_settings(coco_folder(tmp_path / "coco"), evaluation=EvaluationConfig("none"))
    line = describe_fdsr_training(settings)
    assert all(part in line for part in ("compact 2x", "features c3", "crops of 32 px", "1 step"))


def test_data_of_the_evaluation_are_looked_for(tmp_path):
    settings = paper_settings(coco_folder(tmp_path / "coco"), evaluation=EvaluationConfig(data="nowhere"))
    with pytest.raises(FileNotFoundError, match=r"--evaluation\.data FOLDER, or --evaluation\.detector none"):
        describe_fdsr_training(settings)
