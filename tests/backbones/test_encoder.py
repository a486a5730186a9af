"""Encoders for image descriptors."""

import torch

from featlift.backbones import ImageEncoder, image_encoder


def test_encoders():
    network = image_encoder("resnet10t").eval()
    assert isinstance(network, ImageEncoder)
    assert network(torch.rand(2, 3, 65, 33)).shape == (2, network.channels, 3, 2)
    transformer = ImageEncoder("vit_tiny_patch16_224").eval()
    assert transformer(torch.rand(1, 3, 224, 224)).shape == (1, 14 * 14 + 1, transformer.channels)
