"""Parts on the Hugging Face Hub: a repository, or a local folder, with one ``model.safetensors`` written by `save`."""

import tempfile
from pathlib import Path

from torch import nn

from featlift.checkpoints.parts import describe_module, load, save

MODEL_FILE = "model.safetensors"


def from_pretrained(name_or_path: str | Path, revision: str | None = None) -> nn.Module:
    """The part in a local folder (nothing is fetched), or in the repository ``"owner/name"`` of the Hub (fetched
    once, cached).

    Raises:
        FileNotFoundError: if the folder, or the repository's cache when offline, has no ``model.safetensors``.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        return load(folder / MODEL_FILE)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return load(hf_hub_download(str(name_or_path), MODEL_FILE, revision=revision))
    except (HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError) as error:
        raise FileNotFoundError(
            f"'{name_or_path}' is neither a folder here nor a repository of the Hub that can be reached ({type(error).__name__}). "
            f"Give a folder with {MODEL_FILE}, or 'owner/name'."
        ) from error


def push_to_hub(module: nn.Module, repo_id: str, private: bool = True) -> str:
    """Upload ``module`` with a short model card to the repository ``repo_id`` ("owner/name"); returns its address.

    Uses the account of ``hf auth login``. The repository is made if it is missing, ``private`` unless told otherwise.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(module, Path(folder) / MODEL_FILE)
        (Path(folder) / "README.md").write_text(model_card(module, repo_id))
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"{type(module).__name__} by featlift")
    return str(address)


def model_card(module: nn.Module, repo_id: str) -> str:
    """The model card: what it is, its arguments, how to load it."""
    words = describe_module(module)
    count = sum(p.numel() for p in module.parameters())
    return (
        f"---\nlibrary_name: featlift\ntags: [feature-super-resolution]\n---\n\n# {repo_id}\n\n"
        f"`{words['class']}` of FeatLift, {count:,} parameters.\n\n"
        f"```python\nfrom featlift.checkpoints import from_pretrained\n\nmodule = from_pretrained('{repo_id}')\n```\n\n"
        f"Arguments: `{words['arguments']}`\n"
    )
