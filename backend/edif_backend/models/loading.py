"""Load a snapshot the way a client's payload expects to find it.

Called in the zygote, inside the jail: no network, no home, and the weights read-only.  It is the only module of this
package that imports nnsight.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub.constants
import torch
from nnsight import TransformersModel
from nnsight.modeling import huggingface as nnsight_huggingface
from transformers.utils import logging as transformers_logging

from edif_backend.errors import ModelUnusable
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.snapshots import Snapshot

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(snapshot: Snapshot, entry: ModelEntry) -> TransformersModel:
    """The dispatched model on the CPU in ``entry.dtype``, in eval mode, weights frozen, known as ``entry.id``.

    Its persistent objects (modules by path, interleaver, tokenizer, pipeline) carry the ids that a client with
    ``TransformersModel(entry.id, task=entry.task)`` refers to.

    Raises:
        ModelUnusable: the files cannot be loaded as a model.
    """
    try:
        with _offline():
            model = TransformersModel(str(snapshot.folder), task=entry.task, dispatch=True, dtype=DTYPES[entry.dtype])
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:  # what transformers raises on bad files
        raise ModelUnusable(
            f"{entry.id} cannot be loaded from {snapshot.folder} ({type(error).__name__}: {error}): "
            "check it with `python -m edif_backend.models prepare --verify`."
        ) from error
    _rename(model, entry)
    module: torch.nn.Module = model._module
    module.eval()
    module.requires_grad_(False)
    return model


def _rename(model: TransformersModel, entry: ModelEntry) -> None:
    """Let the model go by its catalogue name, where it was loaded from a folder."""
    model.repo_id = entry.id
    model.args = (entry.id, *model.args[1:])
    # The client asks the mirror for the canonical spelling; here it is known, and there is no network to ask.
    nnsight_huggingface._ID_CACHE[entry.id] = entry.id
    for named in (model._module, model._module.config, model.tokenizer):
        if named is not None:
            named.name_or_path = entry.id


@contextmanager
def _offline() -> Iterator[None]:
    """Keep transformers from asking the Hub about files that are not in the folder; and no progress bars."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before
        transformers_logging.enable_progress_bar()
