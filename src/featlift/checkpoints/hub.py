"""Modules on the Hugging Face Hub: a repository or local folder with a ``model.safetensors`` written by `save`."""

import tempfile
from pathlib import Path

from torch import nn

from featlift.checkpoints.parts import describe_module, load, save

MODEL_FILE = "model.safetensors"


def from_pretrained(name_or_path: str | Path, revision: str | None = None) -> nn.Module:
    """Load a module from a local folder or from a repository of the Hub (downloaded once, then cached).

    Args:
        name_or_path: Local folder, or repository ``"owner/name"``.
        revision: Branch, tag or commit of the repository; None is the default branch.

    Raises:
        FileNotFoundError: If the folder, the repository, or offline its cache has no ``model.safetensors``.
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
            f"'{name_or_path}' is neither a local folder nor a reachable repository of the Hub ({type(error).__name__}). "
            f"Give a folder with {MODEL_FILE}, or a repository 'owner/name'."
        ) from error


def push_to_hub(module: nn.Module, repo_id: str, private: bool = True) -> str:
    """Upload ``module`` with a short model card to the repository ``repo_id`` ("owner/name"); returns its URL.

    Uses the account of ``hf auth login``. A missing repository is created, by default as private.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(module, Path(folder) / MODEL_FILE)
        (Path(folder) / "README.md").write_text(model_card(module, repo_id))
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"{type(module).__name__} by featlift")
    return str(url)


def model_card(module: nn.Module, repo_id: str) -> str:
    """Return the model card: class, number of parameters, example, arguments."""
    description = describe_module(module)
    num_parameters = sum(p.numel() for p in module.parameters())
    return (
        f"---\nlibrary_name: featlift\ntags: [feature-super-resolution]\n---\n\n# {repo_id}\n\n"
        f"`{description['class']}` of FeatLift, {num_parameters:,} parameters.\n\n"
        f"```python\nfrom featlift.checkpoints import from_pretrained\n\nmodule = from_pretrained('{repo_id}')\n```\n\n"
        f"Arguments: `{description['arguments']}`\n"
    )
