"""Fetch a model from the Hugging Face Hub.

A connection that breaks is taken up where it broke; after the whole process ended, files that were complete are kept
and the one it was at starts anew (huggingface_hub 2 names partial files at random, lest two processes share one).

Called by ``snapshots.prepare`` in the preparing process.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2  # what huggingface_hub speaks HTTP with
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils.tqdm import tqdm as hub_tqdm

from edif_backend.errors import ModelUnusable
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.snapshots import Say, need_space

# What a model is loaded from.  Weights in other formats (GGUF, ONNX, TensorFlow, Flax) are copies for other programs.
WEIGHTS = (".safetensors", ".bin")
TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".md")
MARGIN_BYTES = 50_000_000


def build(entry: ModelEntry, folder: Path, say: Say) -> str | None:
    """Download ``entry.repo`` at ``entry.revision`` into ``folder`` and give the commit.

    Raises:
        ModelUnusable: no network, no such repository or revision, a licence not accepted, no room.
    """
    api = HfApi()
    try:
        info = api.model_info(entry.repo, revision=entry.revision, files_metadata=True)
        names = _wanted(entry, info)
        for partial in folder.rglob("*.incomplete"):  # nobody will go on with it
            partial.unlink()
        missing = sum(size for name, size in names.items() if not (folder / name).exists())
        need_space(folder, entry, missing + MARGIN_BYTES)
        for number, (name, size) in enumerate(names.items(), start=1):
            say(f"{entry.id}: file {number} of {len(names)}, {name} ({size / 1e6:,.1f} MB)")
            bar = _progress(f"{entry.id}: {name}", say)
            hf_hub_download(entry.repo, name, revision=info.sha, local_dir=folder, tqdm_class=bar)
    except (httpx2.HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelUnusable(f"{entry.id} cannot be fetched: {_why(entry, api.endpoint, error)}.") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the download's own notes, which let it resume
    _drop_unlisted(folder, set(names))
    return info.sha


def _wanted(entry: ModelEntry, info: ModelInfo) -> dict[str, int]:
    """Size in bytes by name of the files to fetch: safetensors if there are any, else PyTorch's own format."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    # Sub-folders hold copies for other programs, but for chat templates.
    endings = (*WEIGHTS, *TEXTS, *((".py",) if entry.trust_remote_code else ()))
    chosen = {
        name: size
        for name, size in sizes.items()
        if name.endswith(endings) and ("/" not in name or name.startswith("additional_chat_templates/"))
    }
    if any(name.endswith(".safetensors") for name in chosen):
        chosen = {name: size for name, size in chosen.items() if not name.endswith((".bin", ".bin.index.json"))}
    if not any(name.endswith(WEIGHTS) for name in chosen):
        raise ModelUnusable(
            f"{entry.id} cannot be served: {entry.repo} has no weights in safetensors or PyTorch format."
        )
    return dict(sorted(chosen.items()))


def _drop_unlisted(folder: Path, names: set[str]) -> None:
    """Remove what an earlier, interrupted download of another revision left."""
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _progress(label: str, say: Say) -> type[hub_tqdm]:
    """A progress bar class, as huggingface_hub wants one, that says a line every tenth of the way."""

    class Tenths(hub_tqdm):
        said = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]
            self.total = kwargs.get("total")
            self.reached = kwargs.get("initial", 0)

        def update(self, n: float | None = 1) -> None:
            self.reached += n or 0
            tenth = int(10 * self.reached / self.total) if self.total else 0
            if tenth > self.said and tenth < 10:
                self.said = tenth
                say(f"{label}: {tenth * 10} %")

    return Tenths


def _why(entry: ModelEntry, endpoint: str, error: Exception) -> str:
    """What happened and what the operator can do about it."""
    if isinstance(error, GatedRepoError):
        return "its owner gives it out after a licence is accepted: accept it in the browser, then set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f'there is no "{entry.repo}" at {endpoint}: check the spelling, or set HF_TOKEN if it is private'
    if isinstance(error, RevisionNotFoundError):
        return f'{entry.repo} has no revision "{entry.revision}": check models.toml'
    if isinstance(error, HfHubHTTPError):
        return f"{endpoint} answered {error.response.status_code}: try again later"
    return f"{endpoint} cannot be reached: check network and proxy settings and try again (what came so far is kept)"
