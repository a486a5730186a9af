import copy
import hashlib
import pickle

import pytest
import torch
from torch import nn

from featlift.upgrading.original_weights import (
    OriginalWeights,
    combine_fingerprints,
    fingerprint_each,
    network_tensors,
)


@pytest.mark.parametrize("keep", [True, False])
def test_changes_are_seen_with_and_without_the_tensors(keep: bool):
    network = nn.BatchNorm1d(2)
    originals = OriginalWeights(network, keep)
    tensors = network_tensors(network)
    assert all(originals.is_unchanged(name, x) for name, x in tensors.items())
    assert not originals.is_unchanged("weight", torch.tensor([1.0, 2.0]))
    assert not originals.is_unchanged("weight", torch.ones(3))
    assert not originals.is_unchanged("added", torch.ones(2))
    assert (originals.tensors is not None) == keep


def test_a_copy_is_shared_and_a_pickle_has_fingerprints_only():
    network = nn.Linear(100, 100)
    originals = OriginalWeights(network, keep=True)
    assert copy.deepcopy(originals) is originals
    data = pickle.dumps(originals)
    assert len(data) < 1_000
    loaded = pickle.loads(data)
    assert loaded.tensors is None
    assert loaded.names == ("weight", "bias")
    assert loaded.fingerprints == originals.fingerprints == OriginalWeights(network, keep=False).fingerprints
    assert loaded.is_unchanged("weight", network.weight)
    with pytest.raises(ValueError, match="no copy of its original weights"):
        loaded.resolve(None)
    assert loaded.resolve(network.state_dict())["weight"].data_ptr() == network.weight.data_ptr()


def test_the_kept_copy_is_a_copy():
    network = nn.Linear(1, 1)
    originals = OriginalWeights(network, keep=True)
    with torch.no_grad():
        network.weight.add_(1)
    assert not originals.is_unchanged("weight", network.weight)
    assert torch.equal(originals.resolve(None)["weight"], network.weight - 1)


def test_fingerprints_depend_on_values_names_and_types():
    first = fingerprint_each({"a": torch.zeros(2), "b": torch.ones(2)})
    assert first["a"] != first["b"] != fingerprint_each({"b": torch.ones(2).half()})["b"]
    assert first["b"] != fingerprint_each({"b": torch.ones(2, 1)})["b"]
    combined = combine_fingerprints(first, ["b", "a"])
    assert combined == combine_fingerprints(first, ("a", "b"))
    assert combined == hashlib.sha256(f"a {first['a']}\nb {first['b']}".encode()).hexdigest()
    assert combined != combine_fingerprints({"a": first["b"], "b": first["a"]}, "ab")


def test_extra_state_is_no_tensor():
    class Counter(nn.Linear):
        def get_extra_state(self) -> int:
            return 3

        def set_extra_state(self, state: int) -> None:
            pass

    assert list(network_tensors(Counter(1, 1))) == ["weight", "bias"]
