"""Provenance of results: commit, package versions and device."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGE_FOLDER = Path(__file__).parent


def collect_provenance(device: torch.device, world_size: int = 1) -> dict[str, Any]:
    """Return ``{"commit", "dirty", "versions", "device", "world_size"}`` of this process, which computes on ``device``."""
    return {
        **git_state(PACKAGE_FOLDER),
        "versions": _package_versions(),
        "device": _device_name(device),
        "world_size": world_size,
    }


def git_state(folder: Path) -> dict[str, Any]:
    """Return ``{"commit": hash, "dirty": bool}`` of the git repository that tracks the files of ``folder``; both None if
    there is none.
    """
    if not _run_git(folder, "ls-files", "."):
        return {"commit": None, "dirty": None}
    return {"commit": _run_git(folder, "rev-parse", "HEAD"), "dirty": bool(_run_git(folder, "status", "--porcelain"))}


def _run_git(folder: Path, *command: str) -> str | None:
    try:
        process = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() if process.returncode == 0 else None


def _package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("featlift", "torch", "torchvision"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}: {_cpu_name()}, {torch.get_num_threads()} of {os.cpu_count()} cores"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
