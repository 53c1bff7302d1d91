"""Pretrained folders from the Hugging Face hub: three plain files of one pinned revision."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sciml.errors import InvalidArgument, PretrainedError, optional
from sciml.pretrained.files import weights

PREFIX = "hf://"
FILES = ("model.json", weights.FILE, "README.md")


def download(address: str, revision: str | None) -> Path:
    """Return the local folder of a model on the hub; files that are there already are not fetched.

    Nothing else of the repository is read, and what is read is checked like any other folder. It
    lies under `$SCIML_CACHE`, by default `~/.cache/sciml`.

    Args:
        address: `hf://owner/name`.
        revision: Branch, tag or commit; a commit makes sure that it stays the same model.

    Raises:
        InvalidArgument: If the address has another form, or no revision is given.
        MissingPackage: If huggingface_hub is not installed.
        PretrainedError: If the download fails.
    """
    repository = address.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InvalidArgument(f"the address {address}", f"{PREFIX}owner/name")
    if not revision:
        raise InvalidArgument(
            f"{address} without a revision",
            "a branch, a tag or, better, a commit: a name alone may be another model tomorrow",
            f'Write load_pretrained("{address}", revision="main")',
        )
    snapshot_download = optional("huggingface_hub", "hub", address).snapshot_download
    cache = Path(os.environ.get("SCIML_CACHE") or Path.home() / ".cache" / "sciml")
    name = "at-" + re.sub(r"[^\w.-]", "-", revision)  # never "..", whatever was typed
    place = cache / "hub" / repository.replace("/", "--") / name
    try:
        # Plain files: the hub's own cache consists of links, which a folder must not hold.
        snapshot_download(
            repository, revision=revision, allow_patterns=list(FILES), local_dir=place
        )
    except Exception as error:  # its own families, and those of the network below
        raise PretrainedError(
            f"{address} at revision {revision} cannot be had ({type(error).__name__}: {error})",
            "a public repository, or one you are logged in for, and a network",
        ) from error
    return place
