"""The peak goes up with what is held, and down again when it is forgotten."""

from mmap import mmap

import pytest
import torch

from featlift.training import memory

CPU = torch.device("cpu")
MEGABYTE = 2**20


def test_what_was_held_counts_until_it_is_forgotten():
    memory.forget(CPU)
    before = memory.peak(CPU)
    with mmap(
        -1, 64 * MEGABYTE
    ) as held:  # pages of its own: an allocator may hand out memory that the process already has
        torch.frombuffer(held, dtype=torch.uint8).fill_(1)
    after = memory.peak(CPU)
    assert 48 * MEGABYTE < after - before < 128 * MEGABYTE
    if not memory.CLEAR.exists():
        pytest.skip("only Linux can forget a peak")
    memory.forget(CPU)
    assert memory.peak(CPU) < after - 32 * MEGABYTE


def test_without_linux_the_process_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert 10 * MEGABYTE < memory.peak(CPU) < 2**40
