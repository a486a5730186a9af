"""An EFPN from words: what is built, how it reads, and which words are refused."""

import pytest
import torch

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.efpn import Duplicate, Exclusive
from featlift.detectors.efpn_config import Finer, extended, parts, read_as
from featlift.detectors.sparse_level import WholeMap, Windows
from featlift.interpolators import interpolators
from featlift.interpolators.conv import PixelShuffle
from featlift.pyramids.efpn import ESPCN


def plain(backbone="resnet10t"):
    F = detectors.extractor("faster-rcnn", Backbone(backbone), interpolators("nearest", 8, 3), 8)
    return detectors.detector("faster-rcnn", F, 3, anchor_scale=4.0, width=16, proposals=30).eval()


def test_words_become_parts():
    M = plain()
    T = extended(M, Finer("espcn", doubling="pixel-shuffle", limit=40.0, routing="duplicate", hard=7))
    F, heads = parts(T)
    assert F.backbone is M.backbone.backbone
    assert isinstance(F.extension.transfer, ESPCN)
    assert isinstance(F.extension.doubling, PixelShuffle)
    assert heads.routing == Duplicate(40.0)
    assert heads.hard == 7
    assert isinstance(heads.reader, WholeMap)


def test_how_it_reads_is_set_afterwards():
    T = extended(plain(), Finer(transfer_options={"width": 4}))
    _, heads = parts(T)
    assert heads.routing == Exclusive(56.0)
    read_as(T, Finer(tile=4, glance=0.1))
    assert isinstance(heads.reader, Windows)
    assert (heads.reader.tile, heads.glance) == (4, 0.1)
    read_as(T, Finer())
    assert isinstance(heads.reader, WholeMap)
    assert heads.glance == 0


def test_a_mobilenet_has_a_finer_level_too():
    T = extended(plain("mobilenetv2_035"), Finer(transfer_options={"width": 4}, tile=2)).eval()
    picture = [torch.rand(3, 128, 192)]
    whole = T(picture)[0]
    assert len(whole["boxes"])
    read_as(T, Finer(tile=2))
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
        Finer(**words)
