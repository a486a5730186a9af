"""Extract features of any network at any layer, given by its dotted module name."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from featlift.detectors.batch_transform import BatchTransform
from featlift.features import IMAGENET_MEAN, IMAGENET_STD, Features


class _StopForward(Exception):
    """Raised in a hook to stop the forward pass after all requested layers have run."""


def extract_features(model: nn.Module, layers: Sequence[str], *inputs: Any) -> Features:
    """Run ``model(*inputs)`` and return the outputs of ``layers`` as ``{layer: map}``; the forward pass stops after the last of them.

    A layer is the dotted name of a submodule (``"body.layer3"``), or such a name and a key of its output (``"backbone.c4"``, or ``"p3"``
    for a key of the model's own output). A layer with several maps is returned as ``"layer.key"`` for each. If a layer runs several
    times, its first output is returned.

    Raises:
        ValueError: If a layer does not exist, does not run, or does not output tensors.
    """
    modules = dict(model.named_modules())
    resolved = {layer: _resolve_layer(layer, modules) for layer in layers}
    outputs = _capture_outputs({name: modules[name] for name, _ in resolved.values()}, model, inputs)
    missing = sorted({name for name, _ in resolved.values()} - set(outputs))
    if missing:
        raise ValueError(f"{missing} did not run in {type(model).__name__}; choose layers in the path of the image.")
    return {
        name: x
        for layer, (module, key) in resolved.items()
        for name, x in _select_maps(layer, outputs[module], key).items()
    }


def _resolve_layer(layer: str, modules: Mapping[str, nn.Module]) -> tuple[str, str | None]:
    """Return the name of the submodule and the key of its output (None for the whole output)."""
    if layer in modules:
        return layer, None
    name, _, key = layer.rpartition(".")
    if name not in modules:
        raise ValueError(f"There is no module '{layer}' or '{name}'. Available: {_format_names(modules)}.")
    return name, key


def _capture_outputs(targets: Mapping[str, nn.Module], model: nn.Module, inputs: Sequence[Any]) -> dict[str, Any]:
    """Run ``model`` until all ``targets`` have run; returns module name → output."""
    outputs: dict[str, Any] = {}
    hooks = [m.register_forward_hook(_capture_hook(outputs, name, len(targets))) for name, m in targets.items()]
    try:
        model(*inputs)
    except _StopForward:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def _capture_hook(outputs: dict[str, Any], name: str, num_targets: int) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs.setdefault(name, output)
        if len(outputs) == num_targets:
            raise _StopForward

    return hook


def _select_maps(layer: str, output: Any, key: str | None) -> Features:
    if isinstance(output, Tensor) and key is None:
        return {layer or "output": output}
    items: dict[str, Any] = {}
    if isinstance(output, Mapping):
        items = {str(name): x for name, x in output.items()}
    elif isinstance(output, list | tuple):
        items = {str(index): x for index, x in enumerate(output)}
    maps = {name: x for name, x in items.items() if isinstance(x, Tensor)}
    if key is not None and key in maps:
        return {layer: maps[key]}
    if key is not None or not maps:
        found = f"the maps {', '.join(maps)}" if maps else f"a {type(output).__name__}"
        raise ValueError(f"There is no map at '{layer}': the module outputs {found}. Choose a layer that outputs maps.")
    return {f"{layer}.{name}" if layer else name: x for name, x in maps.items()}


def _format_names(modules: Mapping[str, nn.Module], max_names: int = 40) -> str:
    names = [name for name in modules if name]
    return ", ".join(names[:max_names]) + (f" and {len(names) - max_names} more" if len(names) > max_names else "")


@contextmanager
def record_calls(modules: Iterable[nn.Module]) -> Iterator[list[tuple[nn.Module, tuple[Any, ...], Tensor]]]:
    """Context in which the list that it returns collects each call of ``modules`` as (module, inputs, output)."""
    calls: list[tuple[nn.Module, tuple[Any, ...], Tensor]] = []

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls.append((module, inputs, output))

    handles = [module.register_forward_hook(record) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


class FeatureExtractor(nn.Module):
    """Map images in 0…1 to the features of ``model`` at ``layers``; ``frozen_copy(FeatureExtractor(…))`` is FDSR's F_ext (Sec. 2.2).

    :func:`featlift.resolution.frozen_copy` makes a copy that stays in evaluation mode and whose parameters receive no gradient; the image
    does receive one.

    ============================  =============================================  ===================
    F_ext                         model                                          layers
    ============================  =============================================  ===================
    ResNet-50 C4 of Mask R-CNN    ``maskrcnn_resnet50_fpn(…).backbone.body``     ``["layer3"]``
    levels of its pyramid         ``maskrcnn_resnet50_fpn(…).backbone``          ``["0", "1"]``
    FeatLift detector             ``detector.backbone``, mean 0, std 1           ``["backbone.c4"]``
    VGG19-54 (before the ReLU)    ``vgg19(…).features``                          ``["34"]``
    timm network                  ``timm.create_model("convnext_tiny", …)``      ``["stages.2"]``
    ============================  =============================================  ===================

    Args:
        model: Network; its in-place layers are made out-of-place.
        layers: Layers, as for :func:`extract_features`.
        mean: RGB mean expected by the weights; 0 for a model that normalizes its input itself.
        std: RGB standard deviation expected by the weights; 1 for a model that normalizes its input itself.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.model = model
        self.layers = tuple(layers)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        for module in model.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]  # it would overwrite the captured map

    def forward(self, images: Tensor) -> Features:
        """``[B, 3, H, W]`` RGB in 0…1 → ``{layer: [B, C, H', W']}``."""
        return extract_features(self.model, self.layers, (images - self.mean) / self.std)


def detector_feature_extractor(detector: nn.Module, layers: Sequence[str]) -> FeatureExtractor:
    """Return a feature extractor of the backbone of ``detector`` with its normalization; parameters are shared with the detector."""
    backbone: nn.Module = detector.backbone  # type: ignore[assignment]
    names, transform = [resolve_layer(backbone, layer) for layer in layers], detector.transform
    if isinstance(transform, BatchTransform):
        return FeatureExtractor(backbone, names, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return FeatureExtractor(backbone, names, transform.image_mean, transform.image_std)  # type: ignore[union-attr, arg-type]


def resolve_layer(network: nn.Module, layer: str) -> str:
    """Return the layer name of a level such as "c4" or "p3" in a FeatLift extractor, a ResNet, or a torchvision ResNet-FPN.

    Other values of ``layer`` are returned unchanged, as layer names of :func:`featlift.detectors.feature_extraction.extract_features`.
    """
    if not (len(layer) == 2 and layer[0] in "cp" and layer[1].isdigit()):
        return layer
    kind, number = layer[0], int(layer[1])
    if hasattr(network, "body"):
        return f"body.layer{number - 1}" if kind == "c" else str(number - 2)
    if hasattr(network, "layer4"):
        return f"layer{number - 1}"
    return f"backbone.{layer}" if kind == "c" else layer
