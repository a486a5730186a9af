"""Features of any network at any place in it, by the dotted names of its modules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featlift.features import Features

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class _StopForward(Exception):
    """Everything asked for has been heard; the rest of the network need not run."""


def extract_features(model: nn.Module, layers: Sequence[str], *inputs: Any) -> Features:
    """What happens at ``layers`` when ``module(*inputs)`` runs, as ``{layer: map}``; the run ends with the last of them.

    A layer is the dotted name of a sub-module (``"body.layer3"``), or such a name and a key of what it gives (``"backbone.c4"``, or
    ``"p3"`` for a key of the module's own output). A layer that gives several maps appears as ``"layer.key"`` for each. One that runs
    several times is heard the first time.

    Raises:
        ValueError: if a layer does not exist, was not reached, or gives no tensors.
    """
    known = dict(model.named_modules())
    places = {layer: _resolve_layer(layer, known) for layer in layers}
    heard = _capture_outputs({name: known[name] for name, _ in places.values()}, model, inputs)
    silent = sorted({name for name, _ in places.values()} - set(heard))
    if silent:
        raise ValueError(f"{silent} did not run in {type(model).__name__}; choose modules on the path of the picture.")
    return {
        name: x for layer, (place, key) in places.items() for name, x in _select_maps(layer, heard[place], key).items()
    }


def _resolve_layer(layer: str, modules: Mapping[str, nn.Module]) -> tuple[str, str | None]:
    """The sub-module to listen to, and the key of its output (None for all of it)."""
    if layer in modules:
        return layer, None
    name, _, key = layer.rpartition(".")
    if name not in modules:
        raise ValueError(f"There is no module '{layer}', nor '{name}'. There are: {_format_names(modules)}.")
    return name, key


def _capture_outputs(targets: Mapping[str, nn.Module], model: nn.Module, inputs: Sequence[Any]) -> dict[str, Any]:
    """Runs ``model`` until all of ``targets`` have answered; module name → its output."""
    heard: dict[str, Any] = {}
    hooks = [part.register_forward_hook(_capture_hook(heard, name, len(targets))) for name, part in targets.items()]
    try:
        model(*inputs)
    except _StopForward:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return heard


def _capture_hook(outputs: dict[str, Any], name: str, num_targets: int) -> Callable[[nn.Module, Any, Any], None]:
    def listen(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs.setdefault(name, output)
        if len(outputs) == num_targets:
            raise _StopForward

    return listen


def _select_maps(layer: str, output: Any, key: str | None) -> Features:
    if isinstance(output, Tensor) and key is None:
        return {layer or "output": output}
    parts: dict[str, Any] = {}
    if isinstance(output, Mapping):
        parts = {str(name): x for name, x in output.items()}
    elif isinstance(output, list | tuple):
        parts = {str(index): x for index, x in enumerate(output)}
    maps = {name: x for name, x in parts.items() if isinstance(x, Tensor)}
    if key is not None and key in maps:
        return {layer: maps[key]}
    if key is not None or not maps:
        has = f"the maps {', '.join(maps)}" if maps else f"a {type(output).__name__}"
        raise ValueError(f"There is no map at '{layer}': what runs there gives {has}. Choose a module that gives maps.")
    return {f"{layer}.{name}" if layer else name: x for name, x in maps.items()}


def _format_names(modules: Mapping[str, nn.Module], max_names: int = 40) -> str:
    names = [name for name in modules if name]
    return ", ".join(names[:max_names]) + (f" and {len(names) - max_names} more" if len(names) > max_names else "")


class FeatureExtractor(nn.Module):
    """``model`` as it answers a picture in 0…1 with its maps at ``layers``. ``frozen(Tap(…))`` is FDSR's F_ext (Sec. 2.2).

    ``mean`` and ``std`` are what the trunk's weights expect (ImageNet's; ``(0, 0, 0)`` and ``(1, 1, 1)`` for a trunk that normalizes by
    itself). :func:`featlift.resolution.frozen_copy` makes a copy that stays in evaluation mode and whose parameters never get a gradient;
    the picture does.

    ============================  ===============================================================  ==================
    F_ext                         trunk                                                            layers
    ============================  ===============================================================  ==================
    ResNet-50 C4 of Mask R-CNN    ``maskrcnn_resnet50_fpn(…).backbone.body``                        ``["layer3"]``
    levels of its pyramid         ``maskrcnn_resnet50_fpn(…).backbone``                             ``["0", "1"]``
    one of ours                   ``detector.backbone``, mean 0, std 1                             ``["backbone.c4"]``
    VGG19-54 (before the ReLU)    ``vgg19(…).features``                                             ``["34"]``
    a timm network                ``timm.create_model("convnext_tiny", …)``                         ``["stages.2"]``
    ============================  ===============================================================  ==================
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
                module.inplace = False  # type: ignore[assignment]  # it would overwrite the map that was tapped before it

    def forward(self, images: Tensor) -> Features:
        """``[B, 3, H, W]`` RGB in 0…1 → ``{layer: [B, C, H', W']}``."""
        return extract_features(self.model, self.layers, (images - self.mean) / self.std)
