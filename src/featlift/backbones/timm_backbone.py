"""Backbones: timm networks with the feature maps ``{c2 … c5}`` as outputs and the image normalization included."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.backbones import stride2
from featlift.backbones.weight_files import explain_failed_download, load_weights
from featlift.checkpoints.hub import use_cache_if_unreachable
from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, level_stride
from featlift.registry import check_choice, suggest

BACKBONE_LEVELS = ("c2", "c3", "c4", "c5")
MAX_STRIDE = level_stride(BACKBONE_LEVELS[-1])
BACKBONE_NORMS = ("frozen", "batch", "sync", "group")
DOWNLOAD_REMEDY = (
    "Give a file: --model.backbone-weights FILE; start from random weights: --model.backbone-weights random; "
    "or --preset quick."
)
MeanStd = tuple[Sequence[float], Sequence[float]]
TimmNetwork = Any  # timm networks have ``feature_info`` and ``pretrained_cfg``, which their types do not declare


@store_init_args(pretrained=False)
class Backbone(nn.Module):
    """timm network that returns its maps at strides 4, 8, 16 and 32 as c2 … c5, for images of any size.

    Convolutional or transformer: ResNet, ResNeXt, ResNeSt, VoVNet, ConvNeXt, Swin, …. The size check of networks with a fixed input size
    is disabled where timm supports it (Swin).

    Args:
        name: Name of the timm network, e.g. "resnet50", "resnest101e", "ese_vovnet39b", "swin_tiny_patch4_window7_224".
        levels: Levels to return, fine → coarse.
        norm: Treatment of batch norms: "frozen" (statistics and affine parameters fixed; for pretrained weights), "batch" (unchanged),
            "sync" (over all processes), or "group" (group norm, at most 32 groups; for small batches and random weights).
        pretrained: True loads timm's weights and **downloads** them if they are not cached; a path loads a local file (safetensors or a
            torch state dict) with timm's keys, or with the same tensors in the same order (e.g. torchvision's).
        mean_std: Mean and standard deviation of the image channels in 0…1; the default is that of the timm weights.
        frozen_stages: 1 freezes the layers up to c2's input, 2 up to c2, 3 up to c3, …; 0 freezes nothing (Detectron2 freezes 2). The
            batch-norm statistics of frozen stages are also fixed.
        drop_path_rate: Maximum probability of dropping a residual branch in training (stochastic depth); the papers use 0.2 for Swin.

    Raises:
        ValueError: If timm has no such network or it lacks these strides, ``norm`` is unknown, the weights do not fit, or the network does
            not support ``drop_path_rate``.
        FileNotFoundError: If the file ``pretrained`` does not exist.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        levels: Sequence[str] = BACKBONE_LEVELS,
        norm: str = "frozen",
        pretrained: bool | str | Path = False,
        mean_std: MeanStd | None = None,
        frozen_stages: int = 0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.levels = tuple(levels)
        network, self.fixed_input_size = _create_feature_network(name, self.levels, pretrained is True, drop_path_rate)
        self.channels: dict[str, int] = dict(zip(self.levels, network.feature_info.channels(), strict=True))
        if not isinstance(pretrained, bool):
            load_weights(network, Path(pretrained))
        elif norm == "frozen" and not pretrained:
            _reset_zero_init_norms(network)
        self.network: TimmNetwork = _convert_norms(network, norm)
        mean, std = mean_std or (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        _freeze_stages(self.network, frozen_stages)

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{"c2": [B, C2, H/4, W/4], …}``; the network determines the rounding of odd sizes.

        For networks with a fixed input size (Swin) the image is padded with the mean color at the bottom and right to multiples of 32,
        and the maps are cropped to ⌈H/4⌉ …
        """
        normalized = (image - self.mean) / self.std
        maps = self.network(_pad_to_stride(normalized) if self.fixed_input_size else normalized)
        if getattr(self.network, "output_fmt", None) == "NHWC":
            maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps]
        features = dict(zip(self.levels, maps, strict=True))
        return _crop_maps(features, *image.shape[-2:]) if self.fixed_input_size else features

    def forward_stem(self, image: Tensor) -> Tensor:
        """Compute the input of stage 2: ``[B, 3, H, W]`` in 0…1 → c1 ``[B, C1, H/2, W/2]``. Raises as :meth:`forward_unpooled`."""
        x = (image - self.mean) / self.std
        for layer in stride2.stem_layers(self.network):
            x = layer(x)
        return x

    def forward_unpooled(self, c1: Tensor) -> Tensor:
        """Compute EFPN's C2' (Sec. III-A, Table I): stage 2 with the same weights, without its downsampling.

        ``[B, C1, H/2, W/2]`` → c2x ``[B, C2, H/2, W/2]``; see `featlift.backbones.stride2`.

        Raises:
            TypeError: If the network has the structure of neither a ResNet nor an EfficientNet.
        """
        return stride2.unpooled_stage2(self.network, c1)


def create_timm_model(name: str, pretrained: bool, remedy: str = DOWNLOAD_REMEDY, **options: Any) -> TimmNetwork:
    """Create the timm network ``name``; ``options`` are those of ``timm.create_model``.

    Raises:
        ValueError: If timm has no such network.
        OSError: If its pretrained weights cannot be downloaded; the message ends with ``remedy``.
    """
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"timm {timm.__version__} has no network '{name}'.{suggest(name, timm.list_models())}")
    cache = use_cache_if_unreachable() if pretrained else nullcontext()
    with explain_failed_download(f"The ImageNet weights of '{name}'", remedy), cache:
        return timm.create_model(name, pretrained=pretrained, **options)


def _pad_to_stride(image: Tensor) -> Tensor:
    """Pad ``[B, 3, H, W]`` with zeros at the bottom and right to multiples of 32."""
    height, width = image.shape[-2:]
    return nnf.pad(image, (0, -width % MAX_STRIDE, 0, -height % MAX_STRIDE))


def _crop_maps(features: Features, height: int, width: int) -> Features:
    """Crop each map to the cells of an image of ``height`` x ``width``."""
    return {
        level: x[..., : -(-height // level_stride(level)), : -(-width // level_stride(level))]
        for level, x in features.items()
    }


def _create_feature_network(
    name: str, levels: Sequence[str], pretrained: bool, drop_path_rate: float
) -> tuple[TimmNetwork, bool]:
    """Create the network up to the coarsest level, with one map per level; also return whether it has a fixed input size."""
    network, options = _create_with_known_options(name, drop_path_rate)
    reductions = network.feature_info.reduction()
    missing = [level for level in levels if level_stride(level) not in reductions]
    if missing:
        raise ValueError(f"'{name}' has maps at strides {reductions}; it has none for {', '.join(missing)}.")
    indices = [reductions.index(level_stride(level)) for level in levels]
    return create_timm_model(name, pretrained, out_indices=indices, **options), "strict_img_size" in options


def _create_with_known_options(name: str, drop_path_rate: float) -> tuple[TimmNetwork, dict[str, Any]]:
    """Create the network with random weights; also return the options it supports (any image size, stochastic depth)."""
    required: dict[str, Any] = {"features_only": True}
    if drop_path_rate:
        required["drop_path_rate"] = drop_path_rate
    for options in ({**required, "strict_img_size": False}, required):
        try:
            return create_timm_model(name, False, **options), options
        except TypeError as error:
            message = str(error)
    raise ValueError(
        f"timm cannot create '{name}' with drop_path_rate={drop_path_rate}: {message}. Try drop_path_rate=0."
    )


def _convert_norms(network: nn.Module, norm: str) -> nn.Module:
    check_choice(norm, BACKBONE_NORMS, "norm of a backbone")
    if norm == "frozen":
        from timm.utils.model import freeze_batch_norm_2d

        return freeze_batch_norm_2d(network)
    if norm == "sync":
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(network)
    return _convert_to_group_norm(network) if norm == "group" else network


def _reset_zero_init_norms(network: nn.Module) -> None:
    """Set zero-initialized norms of residual branches to one; frozen at zero they would disable their branch permanently."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and not module.weight.any():
            nn.init.ones_(module.weight)


def _convert_to_group_norm(network: nn.Module) -> nn.Module:
    """Replace batch norms (and timm's norms with activation) by group norms of at most 32 groups."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            groups = next(g for g in range(min(32, child.num_features), 0, -1) if child.num_features % g == 0)
            activation = [getattr(child, part) for part in ("drop", "act") if hasattr(child, part)]
            setattr(network, name, nn.Sequential(nn.GroupNorm(groups, child.num_features), *activation))
        else:
            _convert_to_group_norm(child)
    return network


def _freeze_stages(network: TimmNetwork, stages: int) -> None:
    """Freeze all layers up to the end of stage ``stages`` (the stem is stage 1)."""
    from timm.utils.model import freeze_batch_norm_2d

    ends = [info["module"] for info in network.feature_info.info if info["reduction"] <= 2**stages]
    if not stages or not ends:
        return
    for name, module in list(network.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) and _is_before(f"{name}.weight", ends[-1], network):
            setattr(network.get_submodule(parent), child, freeze_batch_norm_2d(module))
    for name, parameter in network.named_parameters():
        if _is_before(name, ends[-1], network):
            parameter.requires_grad_(False)


def _is_before(name: str, end: str, network: nn.Module) -> bool:
    """Return whether parameter ``name`` belongs to module ``end`` or to a module defined before it."""
    order = [child for child, _ in network.named_modules()]
    module, last = name.rpartition(".")[0], end.replace(".", "_") if end not in order else end
    return module.startswith(last) or order.index(module) < order.index(last)
