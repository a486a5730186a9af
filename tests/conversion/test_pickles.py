"""Model-zoo pickles: arrays are read, code is never executed."""

import os
import pickle

import numpy as np
import pytest
import torch

from featlift.conversion import read_detectron2_pickle


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_are_read(tmp_path, protocol):
    arrays = {"conv1.weight": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3), "count": np.array([5])}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "unknown"}, protocol))
    state = read_detectron2_pickle(tmp_path / "zoo.pkl")
    assert list(state) == list(arrays)
    torch.testing.assert_close(state["conv1.weight"], torch.from_numpy(arrays["conv1.weight"]))


def test_code_is_rejected_before_execution(tmp_path):
    harm = tmp_path / "harm"
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": {"a": np.zeros(1)}, "x": Harmful(str(harm))}))
    with pytest.raises(ValueError, match=r"rejected: it refers to (posix|nt)\.mkdir"):
        read_detectron2_pickle(tmp_path / "zoo.pkl")
    assert not harm.exists()


@pytest.mark.parametrize("content", [{"model": {}}, [1, 2], {"model": {"a": np.array([None])}}])
def test_nothing_to_read(tmp_path, content):
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="no named arrays"):
        read_detectron2_pickle(tmp_path / "zoo.pkl")


def test_no_pickle_at_all(tmp_path):
    (tmp_path / "zoo.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="rejected"):
        read_detectron2_pickle(tmp_path / "zoo.pkl")
    with pytest.raises(FileNotFoundError):
        read_detectron2_pickle(tmp_path / "none.pkl")
