"""Files on the Hugging Face Hub: download, upload, and no waiting without a network.

`featlift.push_to_hub` and `featlift.from_pretrained` (`featlift.deployment.hub`) decide which files these are.
"""

import socket
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

HUB_PREFIX = "hub:"
"""Commands take a repository as "hub:OWNER/NAME" or "hub:OWNER/NAME@REVISION" where they take a file."""
CONNECT_TIMEOUT = 5.0
"""Seconds after which the Hub counts as unreachable."""


def is_hub_reachable() -> bool:
    """Whether a connection to the server of the Hub is possible; True if a proxy is configured, which is not tested."""
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if urllib.request.getproxies().get(address.scheme) or urllib.request.getproxies().get("all"):
        return True
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True


@contextmanager
def use_cache_if_unreachable() -> Iterator[None]:
    """Context in which huggingface_hub, timm and transformers read only cached files if the Hub cannot be reached.

    They would otherwise try for half a minute before they use the cache or fail.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_hub_reachable()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def download_file(repo_id: str, filenames: Sequence[str], revision: str | None = None) -> Path:
    """Return the local copy of the first of ``filenames`` that the repository ``repo_id`` has; it is downloaded once, then cached.

    Raises:
        FileNotFoundError: If the repository does not exist, cannot be reached and is not cached, or has none of the files.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    offline = False
    with use_cache_if_unreachable():
        for filename in filenames:
            try:
                return Path(hf_hub_download(repo_id, filename, revision=revision))
            except (LocalEntryNotFoundError, OfflineModeIsEnabled):
                offline = True
            except EntryNotFoundError:
                continue
            except (GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
                raise FileNotFoundError(
                    f"'{repo_id}' is neither a local folder nor a repository of the Hub that you can read "
                    f"({type(error).__name__}). Give a folder, or a repository OWNER/NAME; private ones need hf auth login."
                ) from error
    if offline:
        raise FileNotFoundError(
            f"'{repo_id}' is no local folder, the Hugging Face Hub cannot be reached, and the repository is not in the cache of this "
            "machine. Connect to the internet, or give a folder with the files."
        )
    raise FileNotFoundError(f"The repository '{repo_id}' has none of {', '.join(filenames)}: it is not of FeatLift.")


def resolve_hub_path(path: str | Path, filenames: Sequence[str]) -> Path:
    """Return ``path`` unchanged, or for "hub:OWNER/NAME[@REVISION]" the local copy of the first of ``filenames`` there is.

    Raises:
        FileNotFoundError: As :func:`download_file`.
    """
    if not str(path).startswith(HUB_PREFIX):
        return Path(path)
    repo_id, _, revision = str(path).removeprefix(HUB_PREFIX).partition("@")
    return download_file(repo_id, filenames, revision or None)


def upload_files(folder: Path, repo_id: str, private: bool, message: str) -> str:
    """Upload the files of ``folder`` to the repository ``repo_id``, which is created if it is missing; return its URL.

    Raises:
        ConnectionError: If the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    if not is_hub_reachable():
        raise ConnectionError("The Hugging Face Hub cannot be reached; nothing is uploaded.")
    api = HfApi()
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    return str(url)
