"""Pickles of plain data are read; code in a file is named and never executed."""

import io
import os
import pickle

import numpy as np
import pytest

from featlift.checkpoints.array_pickle import ArrayUnpickler


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def read(value, protocol=pickle.HIGHEST_PROTOCOL):
    return ArrayUnpickler(io.BytesIO(pickle.dumps(value, protocol)), encoding="latin1").load()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_and_arrays_are_read(protocol):
    value = {"array": np.arange(6.0).reshape(2, 3), "scalar": np.float32(0.5), "list": [1, "a", None, 2.5], "set": {1}}
    if protocol < 4:
        del value["set"]  # a global of builtins in old protocols
    loaded = read(value, protocol)
    np.testing.assert_array_equal(loaded.pop("array"), value.pop("array"))
    assert loaded == value


def test_code_is_rejected_before_execution(tmp_path):
    with pytest.raises(pickle.UnpicklingError, match=r"it refers to (posix|nt)\.mkdir"):
        read([np.zeros(1), Harmful(str(tmp_path / "harm"))])
    assert not (tmp_path / "harm").exists()
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        read(print)
