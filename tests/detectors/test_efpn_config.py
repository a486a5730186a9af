"""Construction of an EFPN from its configuration, inference settings, and invalid values."""

import pytest
import torch

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.efpn import DuplicateRouting, ExclusiveRouting
from featlift.detectors.efpn_config import ExtendedLevelConfig, build_efpn, configure_inference, efpn_modules
from featlift.detectors.sparse_level import DenseReader, SparseReader
from featlift.interpolators import build_interpolators
from featlift.interpolators.conv import PixelShuffleConv
from featlift.pyramids.texture_transfers import ESPCN


def build_base(backbone="resnet10t"):
    F = detectors.extractor("faster-rcnn", Backbone(backbone), build_interpolators("nearest", 8, 3), 8)
    return detectors.detector("faster-rcnn", F, 3, anchor_scale=4.0, fc_dim=16, num_proposals=30).eval()


def test_the_configuration_builds_modules():
    M = build_base()
    T = build_efpn(
        M,
        ExtendedLevelConfig(
            "espcn", upsampler="pixel-shuffle", small_roi_size=40.0, routing="duplicate", ohem_per_image=7
        ),
    )
    F, heads = efpn_modules(T)
    assert F.backbone is M.backbone.backbone
    assert isinstance(F.extension.transfer, ESPCN)
    assert isinstance(F.extension.upsampler, PixelShuffleConv)
    assert heads.routing == DuplicateRouting(40.0)
    assert heads.ohem_per_image == 7
    assert isinstance(heads.roi_reader, DenseReader)


def test_how_it_reads_is_set_afterwards():
    T = build_efpn(build_base(), ExtendedLevelConfig(transfer_options={"hidden_channels": 4}))
    _, heads = efpn_modules(T)
    assert heads.routing == ExclusiveRouting(56.0)
    configure_inference(T, ExtendedLevelConfig(tile_size=4, prefilter_score=0.1))
    assert isinstance(heads.roi_reader, SparseReader)
    assert (heads.roi_reader.tile_size, heads.prefilter_score) == (4, 0.1)
    configure_inference(T, ExtendedLevelConfig())
    assert isinstance(heads.roi_reader, DenseReader)
    assert heads.prefilter_score == 0


def test_a_mobilenet_has_a_extended_level_too():
    T = build_efpn(
        build_base("mobilenetv2_035"), ExtendedLevelConfig(transfer_options={"hidden_channels": 4}, tile_size=2)
    ).eval()
    images = [torch.rand(3, 128, 192)]
    whole = T(images)[0]
    assert len(whole["boxes"])
    configure_inference(T, ExtendedLevelConfig(tile_size=2))
    for key, value in T(images)[0].items():
        torch.testing.assert_close(value, whole[key])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"routing": "both"}, "exclusive, duplicate"),
        ({"init": "zero"}, "detector, random"),
        ({"transfer": "fft"}, "Did you mean 'ftt'"),
        ({"transfer_options": {"wide": 3}}, "no option wide"),
        ({"upsampler": "nearst"}, "Did you mean 'nearest'"),
    ],
)
def test_invalid_options_are_rejected(options, match):
    with pytest.raises(ValueError, match=match):
        ExtendedLevelConfig(**options)
