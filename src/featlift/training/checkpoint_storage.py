"""Tensors of a checkpoint as safetensors and JSON, for the planners of ``torch.distributed.checkpoint``.

The library's own files hold a pickle, which can run code when it is read. Here every process writes
``rank-<number>.safetensors``, and ``tensors.json`` lists the chunks of every tensor; any number of processes can read
them.
"""

import hashlib
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint import planner as dcp_planner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from featlift.checkpoints.damage import read_json
from featlift.checkpoints.json_io import write_json
from featlift.checkpoints.tensors import write_tensors

TENSORS_FILE = "tensors.json"
_DATA_FILE = re.compile(r"rank-\d+\.safetensors")


class SafetensorsWriter(StorageWriter):
    """Writes the tensors of each process into one file of ``folder``.

    After saving, `checksums` of the coordinator holds the SHA-256 of every file by name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.rank = Path(folder), 0
        self.checksums: dict[str, str] = {}

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to do: one writer saves once."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Note the rank of this process."""
        self.rank = int(kwargs.get("rank", 0))

    def prepare_local_plan(self, plan: dcp_planner.SavePlan) -> dcp_planner.SavePlan:
        """Return the plan of this process unchanged."""
        return plan

    def prepare_global_plan(self, plans: list[dcp_planner.SavePlan]) -> list[dcp_planner.SavePlan]:
        """Return the plans of all processes unchanged."""
        return plans

    def write_data(self, plan: dcp_planner.SavePlan, planner: dcp_planner.SavePlanner) -> Future[list[WriteResult]]:
        """Write the tensors of ``plan``.

        Raises:
            TypeError: If the state has a value that is not a tensor.
        """
        tensors: dict[str, Tensor] = {}
        for item in plan.items:
            if item.type == dcp_planner.WriteItemType.BYTE_IO:
                raise TypeError(f"{item.index.fqn} is no tensor; the state of a learner has only tensors.")
            tensors[_key(item.index)] = planner.resolve_data(item).detach().cpu()  # type: ignore[union-attr]
        path = write_tensors(self.folder / f"rank-{self.rank}.safetensors", tensors)
        place = {"file": path.name, "sha256": file_checksum(path)}
        future: Future[list[WriteResult]] = Future()
        future.set_result([WriteResult(item.index, item.tensor_storage_size() or 0, place) for item in plan.items])
        return future

    def finish(self, metadata: dcp_metadata.Metadata, results: list[list[WriteResult]]) -> None:
        """Write ``tensors.json``; called by the coordinator."""
        places = {result.index: result.storage_data for rank_results in results for result in rank_results}
        self.checksums = {place["file"]: place["sha256"] for place in places.values()}
        tensors = {}
        for name, tensor in metadata.state_dict_metadata.items():
            assert isinstance(tensor, TensorStorageMetadata)
            chunks = [
                {
                    "offsets": chunk.offsets,
                    "sizes": chunk.sizes,
                    "file": places[MetadataIndex(name, chunk.offsets)]["file"],
                }
                for chunk in tensor.chunks
            ]
            dtype = str(tensor.properties.dtype).removeprefix("torch.")
            tensors[name] = {"dtype": dtype, "size": tensor.size, "chunks": chunks}
        path = write_json(self.folder / TENSORS_FILE, tensors)
        self.checksums[path.name] = file_checksum(path)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Return True: any folder will do."""
        return True


class SafetensorsReader(StorageReader):
    """Reads what `SafetensorsWriter` wrote into ``folder``, by any number of processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._files: dict[MetadataIndex, str] = {}

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to do: one reader loads once."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> dcp_metadata.Metadata:
        """Read ``tensors.json``."""
        described = read_json(self.folder / TENSORS_FILE)
        return dcp_metadata.Metadata(
            {name: _describe_tensor(value) for name, value in described.items()}, None, described
        )

    def set_up_storage_reader(
        self, metadata: dcp_metadata.Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Note the file of every chunk."""
        for name, tensor in metadata.storage_data.items():
            for chunk in tensor["chunks"]:
                self._files[MetadataIndex(name, chunk["offsets"])] = chunk["file"]

    def prepare_local_plan(self, plan: dcp_planner.LoadPlan) -> dcp_planner.LoadPlan:
        """Return the plan of this process unchanged."""
        return plan

    def prepare_global_plan(self, plans: list[dcp_planner.LoadPlan]) -> list[dcp_planner.LoadPlan]:
        """Return the plans of all processes unchanged."""
        return plans

    def read_data(self, plan: dcp_planner.LoadPlan, planner: dcp_planner.LoadPlanner) -> Future[None]:
        """Copy the parts of the chunks that ``plan`` asks for into the tensors of ``planner``."""
        by_file: dict[str, list[dcp_planner.ReadItem]] = defaultdict(list)
        for item in plan.items:
            by_file[self._files[item.storage_index]].append(item)
        for name, items in by_file.items():
            if not _DATA_FILE.fullmatch(name):
                raise ValueError(
                    f"{self.folder / TENSORS_FILE} names the file {name}, which is none of this checkpoint."
                )
            with safe_open(self.folder / name, framework="pt") as file:
                for item in items:
                    target = planner.resolve_tensor(item).detach()
                    target.copy_(_read_part(file, item))
                    planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Return True: any folder will do."""
        return True


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of the file ``path`` in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _key(index: MetadataIndex) -> str:
    return f"{index.fqn}@{','.join(map(str, index.offset or ()))}"


def _describe_tensor(value: dict[str, Any]) -> TensorStorageMetadata:
    dtype = getattr(torch, value["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"'{value['dtype']}' is no type of tensors.")
    chunks = [
        ChunkStorageMetadata(torch.Size(chunk["offsets"]), torch.Size(chunk["sizes"])) for chunk in value["chunks"]
    ]
    return TensorStorageMetadata(dcp_metadata.TensorProperties(dtype), torch.Size(value["size"]), chunks)


def _read_part(file: Any, item: dcp_planner.ReadItem) -> Tensor:
    key, starts, lengths = _key(item.storage_index), item.storage_offsets, item.lengths
    if not lengths or 0 in lengths:
        return file.get_tensor(key).reshape(lengths)
    parts = tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True))
    return file.get_slice(key)[parts]
