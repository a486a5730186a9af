"""The peak goes up with what is held, and down again when it is forgotten."""

from mmap import mmap

import pytest
import torch

from featlift.training import memory

CPU = torch.device("cpu")
MEGABYTE = 2**20


def test_what_was_held_counts_until_it_is_forgotten():
    memory.reset_peak_memory(CPU)
    before = memory.read_peak_memory(CPU)
    with mmap(
        -1, 64 * MEGABYTE
    ) as held:  # pages of its own: an allocator may hand out memory that the process already has
        torch.frombuffer(held, dtype=torch.uint8).fill_(1)
    after = memory.read_peak_memory(CPU)
    assert 48 * MEGABYTE < after - before < 128 * MEGABYTE
    if not memory.PROC_CLEAR_REFS.exists():
        pytest.skip("only Linux can forget a peak")
    memory.reset_peak_memory(CPU)
    assert memory.read_peak_memory(CPU) < after - 32 * MEGABYTE


def test_without_linux_the_process_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert 10 * MEGABYTE < memory.read_peak_memory(CPU) < 2**40
