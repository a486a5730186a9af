"""Backbones: any timm network as ``{c2 … c5}``, with its own normalization of the picture inside. The only file that knows timm."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.backbones import stride2
from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, level_stride

BACKBONE_LEVELS = ("c2", "c3", "c4", "c5")
MAX_STRIDE = level_stride(BACKBONE_LEVELS[-1])
BACKBONE_NORMS = ("frozen", "batch", "sync", "group")
MeanStd = tuple[Sequence[float], Sequence[float]]
_TimmNetwork = Any  # timm's networks carry ``feature_info`` and ``pretrained_cfg``, which their types do not tell


@store_init_args(pretrained=False)
class Backbone(nn.Module):
    """A timm network that returns its maps at strides 4, 8, 16 and 32 under the names c2 … c5, for pictures of any size.

    Convolutional or transformer: ResNet, ResNeXt, ResNeSt, VoVNet, ConvNeXt, Swin, …. Those made for one size of picture are told not
    to mind, where timm lets them (Swin).

    Args:
        name: of a timm network, e.g. "resnet50", "resnest101e", "ese_vovnet39b", "swin_tiny_patch4_window7_224".
        levels: the levels to return, fine → coarse.
        norm: what becomes of batch norms: "frozen" (statistics and affine fixed; for pretrained weights), "batch" (as built),
            "sync" (over all processes), or "group" (32 or fewer groups; for small batches from random weights).
        pretrained: True takes timm's weights, which **downloads** them if they are not cached; a path takes a local file (safetensors
            or a torch state dict), in timm's key layout or in any layout with the same tensors in the same order (torchvision's, say).
        mean_std: mean and standard deviation of the picture's channels in 0…1; by default those of the timm weights.
        frozen_stages: 1 freezes all up to c2's input, 2 up to c2, 3 up to c3, …; 0 freezes nothing (Detectron2 freezes 2). The statistics
            of batch norms in frozen stages are fixed, too.
        drop_path_rate: largest share of residual branches left out in training (stochastic depth); the papers use 0.2 for Swin.

    Raises:
        ValueError: for a network timm does not know, or one without these strides, an unknown ``norm``, weights that do not fit, or
            ``drop_path_rate`` for a network that has none.
        FileNotFoundError: if ``pretrained`` names a file that is not there.
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
        self.network: _TimmNetwork = _convert_norms(network, norm)
        mean, std = mean_std or (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        _freeze_stages(self.network, frozen_stages)

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{"c2": [B, C2, H/4, W/4], …}``; odd sizes are rounded as the network does.

        Networks made for one size (Swin) get the picture padded to multiples of 32, at the bottom and right with the mean color, and
        their maps are cut to ⌈H/4⌉ …
        """
        picture = (image - self.mean) / self.std
        maps = self.network(_pad_to_stride(picture) if self.fixed_input_size else picture)
        if getattr(self.network, "output_fmt", None) == "NHWC":
            maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps]
        features = dict(zip(self.levels, maps, strict=True))
        return _crop_maps(features, *image.shape[-2:]) if self.fixed_input_size else features

    def forward_stem(self, image: Tensor) -> Tensor:
        """What stage 2 is made from: ``[B, 3, H, W]`` in 0…1 → c1 ``[B, C1, H/2, W/2]``. Raises TypeError as :meth:`unpooled`."""
        x = (image - self.mean) / self.std
        for layer in stride2.stem_layers(self.network):
            x = layer(x)
        return x

    def forward_unpooled(self, c1: Tensor) -> Tensor:
        """EFPN's C2' (Sec. III-A, Table I): stage 2, with its own weights, without the step that halves the map before it.

        ``[B, C1, H/2, W/2]`` → c2x ``[B, C2, H/2, W/2]``; see `featlift.backbones.stride2`.

        Raises:
            TypeError: if the network is built like neither a ResNet nor an EfficientNet.
        """
        return stride2.unpooled_stage2(self.network, c1)


@store_init_args(pretrained=False)
class ImageEncoder(nn.Module):
    """A timm network as one map, for descriptors: the features before its global pooling.

    Args:
        name: of a timm network, convolutional or transformer.
        pretrained: True (downloads if not cached), False, or the path of a local file as for :class:`Backbone`.
        mean_std: mean and standard deviation of the channels; by default those of the timm weights.

    Raises:
        ValueError: for a network timm does not know, or weights that do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, pretrained: bool | str | Path = False, mean_std: MeanStd | None = None):
        super().__init__()
        self.network: _TimmNetwork = _create_timm_model(name, pretrained is True, num_classes=0)
        self.channels: int = self.network.num_features
        if not isinstance(pretrained, bool):
            load_weights(self.network, Path(pretrained))
        mean, std = mean_std or (self.network.pretrained_cfg["mean"], self.network.pretrained_cfg["std"])
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → the last map ``[B, C, h, w]``, or the tokens of a transformer ``[B, N, C]``."""
        return self.network.forward_features((image - self.mean) / self.std)


def image_encoder(name: str, pretrained: bool | str | Path = False, mean_std: MeanStd | None = None) -> ImageEncoder:
    """:class:`ImageEncoder` under the name that reads well: ``featlift.backbones.encoder("resnet50", "weights.pth")``."""
    return ImageEncoder(name, pretrained, mean_std)


def _create_timm_model(name: str, pretrained: bool, **options: Any) -> _TimmNetwork:
    import timm

    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"timm {timm.__version__} has no network '{name}'. Near it: {', '.join(near) or 'nothing'}.")
    return timm.create_model(name, pretrained=pretrained, **options)


def _pad_to_stride(picture: Tensor) -> Tensor:
    """``[B, 3, H, W]`` with rows and columns of zeros at the end, up to multiples of 32."""
    height, width = picture.shape[-2:]
    return nnf.pad(picture, (0, -width % MAX_STRIDE, 0, -height % MAX_STRIDE))


def _crop_maps(features: Features, height: int, width: int) -> Features:
    """The part of each map that shows a picture of ``height`` x ``width``."""
    return {
        level: x[..., : -(-height // level_stride(level)), : -(-width // level_stride(level))]
        for level, x in features.items()
    }


def _create_feature_network(
    name: str, levels: Sequence[str], pretrained: bool, drop_path_rate: float
) -> tuple[_TimmNetwork, bool]:
    """The network cut after the coarsest level, one map for each of ``levels``; and whether it was made for one size of picture."""
    whole, options = _create_with_known_options(name, drop_path_rate)
    reductions = whole.feature_info.reduction()
    missing = [level for level in levels if level_stride(level) not in reductions]
    if missing:
        raise ValueError(f"'{name}' gives maps at strides {reductions}; there is none for {', '.join(missing)}.")
    chosen = [reductions.index(level_stride(level)) for level in levels]
    return _create_timm_model(name, pretrained, out_indices=chosen, **options), "strict_img_size" in options


def _create_with_known_options(name: str, drop_path_rate: float) -> tuple[_TimmNetwork, dict[str, Any]]:
    """The network called ``name`` with random weights, and the options it knows of those we want: any size, stochastic depth."""
    wanted = {"features_only": True} | ({"drop_path_rate": drop_path_rate} if drop_path_rate else {})
    for options in ({**wanted, "strict_img_size": False}, wanted):
        try:
            return _create_timm_model(name, False, **options), options
        except TypeError as error:
            refused = str(error)
    raise ValueError(f"'{name}' was refused by timm with drop_path={drop_path_rate}: {refused}. Try drop_path=0.")


def _convert_norms(network: nn.Module, norm: str) -> nn.Module:
    if norm not in BACKBONE_NORMS:
        raise ValueError(f"Unknown norm '{norm}' for a backbone; choose one of {', '.join(BACKBONE_NORMS)}.")
    if norm == "frozen":
        from timm.utils.model import freeze_batch_norm_2d

        return freeze_batch_norm_2d(network)
    if norm == "sync":
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(network)
    return _convert_to_group_norm(network) if norm == "group" else network


def _reset_zero_init_norms(network: nn.Module) -> None:
    """Norms that timm starts at zero, to close residual branches at first, start at one: frozen, they would stay closed for ever."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and not module.weight.any():
            nn.init.ones_(module.weight)


def _convert_to_group_norm(network: nn.Module) -> nn.Module:
    """Batch norms, timm's with their activation included, become group norms of at most 32 groups."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            groups = next(g for g in range(min(32, child.num_features), 0, -1) if child.num_features % g == 0)
            after = [getattr(child, part) for part in ("drop", "act") if hasattr(child, part)]
            setattr(network, name, nn.Sequential(nn.GroupNorm(groups, child.num_features), *after))
        else:
            _convert_to_group_norm(child)
    return network


def _freeze_stages(network: _TimmNetwork, stages: int) -> None:
    """Fixes every layer that comes before map number ``stages`` is complete (the stem is stage 1)."""
    from timm.utils.model import freeze_batch_norm_2d

    ends = [info["module"] for info in network.feature_info.info if info["reduction"] <= 2**stages]
    if not stages or not ends:
        return
    for name, module in list(network.named_modules()):
        owner, _, child = name.rpartition(".")
        if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) and _is_before(f"{name}.weight", ends[-1], network):
            setattr(network.get_submodule(owner), child, freeze_batch_norm_2d(module))
    for name, parameter in network.named_parameters():
        if _is_before(name, ends[-1], network):
            parameter.requires_grad_(False)


def _is_before(name: str, end: str, network: nn.Module) -> bool:
    """Whether parameter ``name`` belongs to module ``end`` or to one that is defined before it."""
    order = [child for child, _ in network.named_modules()]
    owner, mark = name.rpartition(".")[0], end.replace(".", "_") if end not in order else end
    return owner.startswith(mark) or order.index(owner) < order.index(mark)


def load_weights(network: nn.Module, path: Path) -> None:
    """Reads a local weight file into ``network``: by name, else by order.

    Files of other libraries hold the same tensors in the same order under other names (torchvision's ``features.0.0.weight`` is
    timm's ``conv_stem.weight``). Then tensors are paired in order, and every pair must have the same shape; what follows the
    last of ours (a classifier) is not needed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if neither names nor order fit, with the first tensors that do not.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file '{path}'.")
    tensors = _read_state_dict(path)
    wanted = network.state_dict()
    needed = {name: value for name, value in wanted.items() if not name.endswith("num_batches_tracked")}
    named = {name: tensors[name] for name in needed if name in tensors and tensors[name].shape == needed[name].shape}
    network.load_state_dict(
        named if len(named) == len(needed) else _match_by_order(needed, tensors, path), strict=False
    )


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("model", "state_dict"):
        content = content[wrapper] if isinstance(content, Mapping) and wrapper in content else content
    if not isinstance(content, Mapping):
        raise ValueError(f"'{path}' holds a {type(content).__name__}; expected a state dict, name → tensor.")
    return {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}


def _match_by_order(needed: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    there = [(name, value) for name, value in tensors.items() if not name.endswith("num_batches_tracked")]
    for (ours, tensor), (theirs, value) in zip(needed.items(), there, strict=False):
        if tensor.shape != value.shape:
            raise ValueError(
                f"'{path}' does not fit: by name {_count_shared(needed, tensors)} of {len(needed)} tensors are there, and in order "
                f"the network's '{ours}' {tuple(tensor.shape)} meets '{theirs}' {tuple(value.shape)}."
            )
    if len(there) < len(needed):
        raise ValueError(f"'{path}' holds {len(there)} tensors; the network needs {len(needed)}.")
    return {ours: value for ours, (_, value) in zip(needed, there, strict=False)}


def _count_shared(names: Iterable[str], others: Mapping[str, Tensor]) -> int:
    return sum(name in others for name in names)
