import pytest

from featlift.conversion.detector_files import published_detector_config


@pytest.mark.parametrize("detector", ["faster-rcnn", "retinanet", "fcos"])
def test_only_detectors_with_rois_are_aligned(detector):
    assert published_detector_config(detector).detector_options.get("aligned", False) == (detector == "faster-rcnn")


def test_resnest_has_its_own_heads_and_norms():
    config = published_detector_config("cascade-mask-rcnn", "resnest101e", interpolator="afi")
    assert (config.norm, config.pyramid_norm, config.detector_options["num_convs"]) == ("batch", "sync", 4)
