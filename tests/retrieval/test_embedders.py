"""Embedders by name."""

import pytest
import torch

from featlift.retrieval.embedders import EmbedderConfig, build_embedder, build_encoder


@pytest.mark.parametrize(
    ("config", "dimension"),
    [
        (EmbedderConfig("gist", input_size=64), 576),
        (EmbedderConfig("mobilenetv2_050", input_size=32), 1280),
        (EmbedderConfig("resnet18", input_size=32, pooling="gem", mean_std=(0.5, 0.5)), 512),
    ],
)
def test_embedders_report_their_descriptor_length(config, dimension):
    F, reported = build_embedder(config)
    assert F(torch.rand(2, 3, F.input_size, F.input_size)).shape == (2, dimension) == (2, reported)


def test_unknown_pooling():
    with pytest.raises(ValueError, match="gem"):
        build_embedder(EmbedderConfig("resnet18", pooling="max"))


@pytest.mark.parametrize(("encoder", "remedy"), [("vgg16-fc7", "FILE"), ("mobilenetv2_050", "download")])
def test_random_weights_are_a_warning_with_a_remedy(encoder, remedy):
    with pytest.warns(UserWarning, match=f"random weights.*--embedder.weights.*{remedy}"):
        build_encoder(EmbedderConfig(encoder))
