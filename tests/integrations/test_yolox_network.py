"""YOLOX in its published sizes."""

import pytest

from featlift.integrations.yolox_network import YOLOX_SIZES, build_yolox, size_of_width

pytest.importorskip("yolox", reason="pixeltable-yolox is not installed")


def test_the_nano_network_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in build_yolox("nano").parameters()) / 1e6 == pytest.approx(0.91, abs=0.005)


def test_sizes_are_told_apart_by_their_stem():
    assert [size_of_width(int(64 * settings.width)) for settings in YOLOX_SIZES.values()] == list(YOLOX_SIZES)
    with pytest.raises(ValueError, match="stem"):
        size_of_width(17)
    with pytest.raises(ValueError, match="Did you mean 'nano'"):
        build_yolox("nanno")
