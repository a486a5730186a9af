"""Small third-party-like networks: a YOLO, an RT-DETR, torchvision's detectors."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN


def _down(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.SiLU())


class Yolo(nn.Module):
    """Layers in a list, each with the attribute ``f`` that says where its input comes from, as ultralytics does it."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            (-1, nn.Sequential(_down(3, 8), _down(8, 8))),
            (-1, _down(8, 12)),
            (-1, _down(12, 16)),
            (-1, nn.Upsample(None, 2, "nearest")),
            ([-1, 1], nn.Conv2d(28, 10, 1)),
            (-1, nn.Upsample(scale_factor=2.0, mode="bilinear")),
            ([-1, 0], nn.Conv2d(18, 6, 1)),
            (-1, nn.Upsample(scale_factor=4)),
        ]
        self.model = nn.ModuleList(layer for _, layer in layers)
        for layer, (source, _) in zip(self.model, layers, strict=True):
            layer.f = source

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 6, H, W]``."""
        outputs: list[Tensor] = []
        for layer in self.model:
            if layer.f != -1:
                assert isinstance(layer.f, list)
                x = torch.cat([x if source == -1 else outputs[source] for source in layer.f], dim=1)
            x = layer(x)
            outputs.append(x)
        return x


class HybridEncoder(nn.Module):
    """Upsamples by 2 twice, inline; ``out_channels`` is read by its owner."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = [8, 8, 8]
        self.lateral = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(2))
        self.blocks = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=1) for _ in range(2))

    def forward(self, maps: list[Tensor], padding: Tensor | None = None) -> list[Tensor]:
        """Maps ``[B, 8, H, W]``, fine → coarse → the same; ``padding [B, H, W]`` (booleans) is resized and unused."""
        results = [maps[-1]]
        for step, (lateral, block) in enumerate(zip(self.lateral, self.blocks, strict=True)):
            top = lateral(results[0])
            larger = nnf.interpolate(top, scale_factor=2.0, mode="nearest")
            results.insert(0, block(torch.cat([larger, maps[-2 - step]], dim=1)))
        if padding is not None:
            nnf.interpolate(padding[None].float(), size=results[0].shape[-2:])
        return results


class MaskHead(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """``[B, 8, H, W]`` → ``[B, 1, 2H, 2W]``: masks, which are no features."""
        return nnf.interpolate(x.mean(dim=1, keepdim=True), scale_factor=2.0, mode="bilinear")


class RTDetr(nn.Module):
    """``masks`` says whether a second module upsamples by 2."""

    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.backbone = nn.ModuleList([nn.Sequential(_down(3, 8), _down(8, 8), _down(8, 8)), _down(8, 8), _down(8, 8)])
        self.encoder = HybridEncoder()
        self.head = nn.Conv2d(self.encoder.out_channels[0], 4, 1)
        self.masks = MaskHead() if masks else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``[B, 3, H, W]`` → boxes ``[B, 4, H/8, W/8]`` and perhaps masks ``[B, 1, H/4, W/4]``."""
        maps: list[Tensor] = []
        for stage in self.backbone:
            maps.append(stage(maps[-1] if maps else x))
        fine = self.encoder(maps, padding=torch.zeros(x.shape[0], *x.shape[-2:], dtype=torch.bool))[0]
        return (self.head(fine),) if self.masks is None else (self.head(fine), self.masks(fine))


@pytest.fixture
def yolo() -> nn.Module:
    torch.manual_seed(0)
    return Yolo().eval()


@pytest.fixture
def rtdetr() -> nn.Module:
    torch.manual_seed(0)
    return RTDetr(masks=False).eval()


@pytest.fixture
def rtdetr_with_masks() -> nn.Module:
    torch.manual_seed(0)
    return RTDetr(masks=True).eval()


class Backbone(nn.Sequential):
    """Three stages of stride 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(_down(3, 4), _down(4, 4), _down(4, 4)), _down(4, 6), _down(6, 8))


@pytest.fixture
def pyramid() -> nn.Module:
    """A small backbone with torchvision's FPN: 16 channels, strides 8, 16, 32."""
    torch.manual_seed(0)
    return BackboneWithFPN(Backbone(), {"0": "c3", "1": "c4", "2": "c5"}, [4, 6, 8], 16).eval()
