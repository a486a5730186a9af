"""Weights in files. Ours carry the part's class and arguments, so that `load` needs nothing else; other people's are
read, too.

* `save`, `load`: a part in a safetensors file, to be rebuilt by anybody.
* `load_state`: other people's tensors into a module that exists, with a report of every key.
* `write_tensors`, `read_tensors`: named tensors with words beside them, for those who bring their own description.
* `from_pretrained`, `push_to_hub`: the same files on the Hugging Face Hub. Nothing is fetched unless its name is given.
"""

from featlift.checkpoints.hub import from_pretrained, push_to_hub
from featlift.checkpoints.parts import load, save
from featlift.checkpoints.states import LoadReport, load_state_file, read_state_dict
from featlift.checkpoints.tensors import read_tensors, write_tensors

__all__ = [
    "LoadReport",
    "from_pretrained",
    "load",
    "load_state_file",
    "push_to_hub",
    "read_state_dict",
    "read_tensors",
    "save",
    "write_tensors",
]
