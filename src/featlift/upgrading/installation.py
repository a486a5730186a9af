"""Find the upsampling steps of a network, install adapters, and check them on the example inputs: all succeeds, or nothing changes."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from featlift.interpolators import GUIDED_INTERPOLATORS
from featlift.upgrading.adapters import build_adapters
from featlift.upgrading.dataflow import iterate_tensors
from featlift.upgrading.example_run import (
    DEFAULT_IMAGE_SIZE,
    Arguments,
    example_arguments,
    run_example,
    small_default_image,
)
from featlift.upgrading.finders import FEATLIFT, TORCHVISION, find_sites, find_untraced_sites, is_featlift_pyramid
from featlift.upgrading.modules import restore_site
from featlift.upgrading.report import UpgradeReport, site_rows
from featlift.upgrading.sites import FinderResult, UpgradeSite, common_parent
from featlift.upgrading.tracing import trace_interpolations

LEARNED_UPSAMPLING = (nn.ConvTranspose2d, nn.PixelShuffle)


def install_interpolators(
    model: nn.Module, name: str, necks: Sequence[str], example_inputs: Any, options: dict[str, object]
) -> tuple[UpgradeReport, tuple[tuple[str, int], ...]]:
    """Add the interpolator ``name`` with ``options`` to the upsampling steps of ``model`` within the submodules ``necks``.

    Returns:
        Report, and (dotted name, number of steps) of each upgraded module.

    Raises:
        ValueError: If ``model`` fails on the inputs, has no upsampling step, or would not work or not give the same outputs with the
            adapters; ``model`` stays as it was.
    """
    with small_default_image(model, example_inputs):
        arguments = example_arguments(model, example_inputs)
        reference = _run_plain(model, arguments, necks, example_inputs)
        if reference is None:
            result = find_untraced_sites(model, necks)
        else:
            result = find_sites(model, necks, trace_interpolations(model, example_inputs))
        if not result.sites:
            raise ValueError(_explain_nothing_found(model, necks, result))
        _check_not_present(result, name)
        _check_guide(result, name)
        adapters = [_adapters_for_site(site, name, options) for site in result.sites]
        _install(model, result.sites, adapters)
        if reference is not None:
            problem = _find_problem(
                model, arguments, reference, [a for site in adapters for a in site if a is not None]
            )
            if problem:
                _restore(model, result.sites)
                raise ValueError(f"{problem} The model is as before.")
    return _build_report(result, adapters, name), tuple((site.path, len(site.steps)) for site in result.sites)


def _check_guide(result: FinderResult, name: str) -> None:
    """Raise a ValueError if the interpolator ``name`` needs the lateral map of the finer level and a site does not know it."""
    unknown = [site.path or "the model itself" for site in result.sites if site.finder not in (TORCHVISION, FEATLIFT)]
    if name in GUIDED_INTERPOLATORS and unknown:
        raise ValueError(
            f"'{name}' also reads the lateral map of the finer level, which is not known at {', '.join(unknown)}, only in an FPN of "
            "torchvision or FeatLift; choose an interpolator without a guide, such as 'lda-aqu', 'dysample' or 'light'."
        )


def _run_plain(
    model: nn.Module, arguments: Arguments, necks: Sequence[str], example_inputs: Any
) -> list[Tensor] | None:
    """Return the outputs before the upgrade; None if the default image does not suit and there are sites that need no example."""
    try:
        return _run(model, arguments)
    except Exception as error:  # an arbitrary network may raise anything
        if example_inputs is None and find_untraced_sites(model, necks).sites:
            return None
        size = "x".join(map(str, DEFAULT_IMAGE_SIZE))
        inputs = f"an image [1, 3, {size.replace('x', ', ')}]" if example_inputs is None else "example_inputs"
        raise ValueError(
            f"{type(model).__name__} failed on {inputs} ({type(error).__name__}: {error}). Pass valid inputs as example_inputs=…: "
            "a tensor, a tuple for several arguments, or a dictionary for keyword arguments."
        ) from error


def _run(model: nn.Module, arguments: Arguments) -> list[Tensor]:
    return [x.detach().clone() for x in iterate_tensors(run_example(model, arguments))]


def _install(model: nn.Module, sites: Sequence[UpgradeSite], adapters: Sequence[list[nn.Module | None]]) -> None:
    for number, (site, site_adapters) in enumerate(zip(sites, adapters, strict=True)):
        try:
            site.install(site_adapters)
        except ValueError:
            _restore(model, sites[:number])
            raise


def _restore(model: nn.Module, sites: Sequence[UpgradeSite]) -> None:
    for site in sites:
        restore_site(model.get_submodule(site.path))


def _find_problem(model: nn.Module, arguments: Arguments, reference: list[Tensor], adapters: list[nn.Module]) -> str:
    """Run the upgraded ``model`` and return what is wrong; empty if all adapters ran and the outputs equal ``reference``."""
    ran: set[nn.Module] = set()
    with ExitStack() as stack:
        for adapter in set(adapters):
            handle = adapter.register_forward_hook(lambda module, *_: ran.add(module))
            stack.callback(handle.remove)
        try:
            outputs = _run(model, arguments)
        except Exception as error:  # an arbitrary network may raise anything
            return (
                f"The upgraded {type(model).__name__} failed on the example inputs ({type(error).__name__}: {error})."
            )
    idle = len(set(adapters) - ran)
    if idle:
        name = type(model).__name__
        return f"{idle} of {len(set(adapters))} adapters were not reached when the upgraded {name} ran on the example inputs."
    if len(outputs) != len(reference) or not all(map(_is_equal, outputs, reference)):
        return (
            f"The upgraded {type(model).__name__} does not give the same outputs on the example inputs: it is not deterministic, or takes "
            "other kernels while its calls are intercepted. Name a smaller part of it as the neck."
        )
    return ""


def _is_equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _adapters_for_site(site: UpgradeSite, name: str, options: dict[str, object]) -> list[nn.Module | None]:
    """Build an adapter, or None, for each step of the site, with the dtype and device of its surroundings."""
    adapters = build_adapters(name, [step.channels if step.is_2x else None for step in site.steps], options)
    for adapter in adapters:
        if adapter is not None:
            adapter.to(site.like.device, site.like.dtype)
    return adapters


def _check_not_present(result: FinderResult, name: str) -> None:
    if {step.mode for site in result.sites for step in site.steps} == {name}:
        raise ValueError(f"The model already uses {name} interpolation; choose a learned interpolator such as 'afi'.")


def _build_report(result: FinderResult, adapters: Sequence[list[nn.Module | None]], name: str) -> UpgradeReport:
    pairs = zip(result.sites, adapters, strict=True)
    rows = [row for site, site_adapters in pairs for row in site_rows(site, site_adapters, name, result.image_size)]
    finders = ", ".join(dict.fromkeys(site.finder for site in result.sites))
    neck = common_parent([site.path for site in result.sites])
    return UpgradeReport(finders, tuple(rows), result.image_size, result.skipped, neck)


def _explain_nothing_found(model: nn.Module, necks: Sequence[str], result: FinderResult) -> str:
    place = f" in {', '.join(map(repr, necks))}" if necks else ""
    seen = f"left as they are: {'; '.join(result.skipped)}" if result.skipped else "none was called"
    learned = [m for m in model.modules() if isinstance(m, LEARNED_UPSAMPLING)]
    pyramids = [(n, m) for n, m in model.named_modules() if is_featlift_pyramid(m)]
    notes = [
        f" The pyramid '{path}' already has learned interpolators ({', '.join(sorted({type(i).__name__ for i in pyramid.interpolators}))})."  # type: ignore[union-attr]
        for path, pyramid in pyramids
    ]
    if learned:
        names = ", ".join(sorted({type(m).__name__ for m in learned}))
        notes.append(f" It upsamples by {len(learned)} learned layers already ({names}).")
    return (
        f"{type(model).__name__} has nothing that upsamples a feature map by 2{place}. Calls of F.interpolate, by nn.Upsample, "
        f"torchvision's FeaturePyramidNetwork or any other code: {seen}.{''.join(notes)}"
    )
