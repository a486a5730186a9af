"""An EFPN from words: what is built, how it reads, and which words are refused."""

import pytest
import torch

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.efpn import DuplicateRouting, ExclusiveRouting
from featlift.detectors.efpn_config import ExtendedLevelConfig, build_efpn, configure_inference, efpn_modules
from featlift.detectors.sparse_level import DenseReader, SparseReader
from featlift.interpolators import build_interpolators
from featlift.interpolators.conv import PixelShuffleConv
from featlift.pyramids.efpn import ESPCN


def plain(backbone="resnet10t"):
    F = detectors.extractor("faster-rcnn", Backbone(backbone), build_interpolators("nearest", 8, 3), 8)
    return detectors.detector("faster-rcnn", F, 3, anchor_scale=4.0, width=16, proposals=30).eval()


def test_words_become_parts():
    M = plain()
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
    T = build_efpn(plain(), ExtendedLevelConfig(transfer_options={"width": 4}))
    _, heads = efpn_modules(T)
    assert heads.routing == ExclusiveRouting(56.0)
    configure_inference(T, ExtendedLevelConfig(tile_size=4, prefilter_score=0.1))
    assert isinstance(heads.roi_reader, SparseReader)
    assert (heads.roi_reader.tile_size, heads.prefilter_score) == (4, 0.1)
    configure_inference(T, ExtendedLevelConfig())
    assert isinstance(heads.roi_reader, DenseReader)
    assert heads.prefilter_score == 0


def test_a_mobilenet_has_a_finer_level_too():
    T = build_efpn(plain("mobilenetv2_035"), ExtendedLevelConfig(transfer_options={"width": 4}, tile_size=2)).eval()
    picture = [torch.rand(3, 128, 192)]
    whole = T(picture)[0]
    assert len(whole["boxes"])
    configure_inference(T, ExtendedLevelConfig(tile_size=2))
    for key, value in T(picture)[0].items():
        torch.testing.assert_close(value, whole[key])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"routing": "both"}, "exclusive or duplicate"),
        ({"start": "zero"}, "detector or random"),
        ({"transfer": "fft"}, "Did you mean 'ftt'"),
        ({"transfer_options": {"wide": 3}}, "no option wide"),
        ({"doubling": "nearst"}, "Did you mean 'nearest'"),
    ],
)
def test_wrong_words_are_refused_at_once(words, match):
    with pytest.raises(ValueError, match=match):
        ExtendedLevelConfig(**words)
