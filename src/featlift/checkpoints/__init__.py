"""Checkpoints: FeatLift modules in files that contain class and arguments, and weight files of other libraries.

* `save`, `load`: write a module to a safetensors file and rebuild it from the file alone.
* `load_state_file`: load a weight file of any source into an existing module, with a report of every key.
* `write_tensors`, `read_tensors`: named tensors with metadata.
"""

from featlift.checkpoints.parts import load, save
from featlift.checkpoints.states import LoadReport, load_state_file, read_state_dict
from featlift.checkpoints.tensors import read_tensors, write_tensors

__all__ = [
    "LoadReport",
    "load",
    "load_state_file",
    "read_state_dict",
    "read_tensors",
    "save",
    "write_tensors",
]
