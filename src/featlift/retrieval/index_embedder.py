"""The embedder of a search index: its settings and its weights are files of the index.

An index may come from someone else, so only files in its folder are opened, and no network is downloaded.
"""

import warnings
from dataclasses import asdict, replace
from pathlib import Path

from featlift.checkpoints import load_state_file
from featlift.checkpoints.damage import explain_damage, read_json
from featlift.checkpoints.json_io import write_json
from featlift.checkpoints.states import unique_state_dict
from featlift.checkpoints.tensors import write_tensors
from featlift.retrieval.descriptors import Embedder
from featlift.retrieval.embedders import EmbedderConfig, build_embedder

EMBEDDER_FILE = "embedder.json"
WEIGHTS_FILE = "embedder.safetensors"


def load_embedder_config(folder: Path, config: EmbedderConfig | None) -> EmbedderConfig:
    """Return the embedder of an existing index, or ``config`` for a new index (default: "gist").

    Raises:
        ValueError: If the existing index has another embedder than ``config``, or its ``embedder.json`` is damaged.
    """
    file = folder / EMBEDDER_FILE
    if not file.exists():
        return config or EmbedderConfig("gist", input_size=128)
    with explain_damage(file, "Delete the index, and build it again."):
        values = read_json(file)
        values.pop("folder")
        stored = EmbedderConfig(**{**values, "mean_std": values["mean_std"] and tuple(values["mean_std"])})
    if config not in (None, stored):
        raise ValueError(f"The index {folder} has {stored}, not {config}; omit the embedder, or use another folder.")
    return stored


def load_index_embedder(folder: Path, config: EmbedderConfig | None) -> tuple[Embedder, int]:
    """Return the embedder of an index and its descriptor length D. ``config`` is what the user has asked for, if anything.

    Raises:
        ValueError: If ``embedder.json`` asks for weights or a download that the user has not asked for, or see `load_embedder_config`.
    """
    stored, weights = load_embedder_config(folder, config), folder / WEIGHTS_FILE
    if config is None and (":" in stored.encoder or (stored.weights and not weights.exists())):
        default, given = EmbedderConfig(), asdict(stored)
        options = [f"--embedder.{k.replace('_', '-')} {v}" for k, v in given.items() if v != getattr(default, k)]
        raise ValueError(
            f"{folder / EMBEDDER_FILE} names {stored.weights or stored.encoder}, but the index has no {WEIGHTS_FILE}. Files and "
            "downloads that an index names are not used, because it may be someone else's. If it is yours: "
            f"featlift index IMAGES --out {folder} {' '.join(options)}"
        )
    if not weights.exists():
        return build_embedder(stored)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has random weights")
        embedder, dimension = build_embedder(replace(stored, weights=""))
    load_state_file(embedder, weights)
    return embedder, dimension


def save_index_embedder(folder: Path, config: EmbedderConfig, embedder: Embedder, images: Path) -> None:
    """Write the settings of the embedder, the folder of the ``images``, and the weights if it has any."""
    write_json(folder / EMBEDDER_FILE, {**asdict(config), "folder": images.resolve()})
    if config.encoder != "gist" and not (folder / WEIGHTS_FILE).exists():
        write_tensors(folder / WEIGHTS_FILE, unique_state_dict(embedder))
