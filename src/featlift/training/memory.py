"""How much memory training took at its peak."""

import sys
from pathlib import Path

import torch

PROC_STATUS, PROC_CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Begin anew: what `peak` says afterwards is the peak from here on (on a CPU under Linux only; elsewhere nothing happens)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif PROC_CLEAR_REFS.exists():
        try:
            PROC_CLEAR_REFS.write_text("5")
        except OSError:  # a container may forbid it; then the peak is that of the process
            return


def read_peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU the most that PyTorch had allocated, on a CPU the most that the process had in memory, all of Python included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if PROC_STATUS.exists():
        lines = dict(line.split(":", 1) for line in PROC_STATUS.read_text().splitlines() if ":" in line)
        if "VmHWM" in lines:
            return 1024 * int(lines["VmHWM"].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
