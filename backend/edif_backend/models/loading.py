"""Load a snapshot the way a client's payload expects to find it.

Called in the zygote, inside the jail: no network, no home, and the weights read-only.  It is the only module of this
package that imports nnsight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import huggingface_hub.constants
import torch
from nnsight import TransformersModel
from nnsight.modeling import huggingface as nnsight_huggingface
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from edif_backend.errors import ModelUnusable
from edif_backend.models import layers
from edif_backend.models.catalogue import FOUR_BIT, ModelEntry
from edif_backend.models.quantized import four_bits, keep_four_bits, to_int8
from edif_backend.models.snapshots import Snapshot

#: What a model is loaded in; one in int8 is quantized from float32 and computes in it, one of four bits in bfloat16.
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.float32,
    **dict.fromkeys(FOUR_BIT, torch.bfloat16),
}


def load(snapshot: Snapshot, entry: ModelEntry, parts: Sequence[tuple[str, int]] = ()) -> TransformersModel:
    """The dispatched model in ``entry.dtype``, in eval mode, weights frozen, known as ``entry.id``.

    Its persistent objects (modules by path, interleaver, tokenizer, pipeline) carry the ids that a client with
    ``TransformersModel(entry.id, task=entry.task)`` refers to.

    Args:
        parts: devices and the bytes of the model that each is to hold, in the order of the forward pass; none: it goes
            onto the CPU.

    Raises:
        ModelUnusable: the files cannot be loaded as a model, or not in this dtype on this machine, or the parts are
            too small.
    """
    try:
        with _offline():
            given: dict[str, Any] = {
                "task": entry.task,
                "dtype": DTYPES[entry.dtype],
                "trust_remote_code": entry.trust_remote_code,
            }
            if entry.dtype in FOUR_BIT:
                given |= four_bits(entry.dtype)
            if parts:
                without_weights = TransformersModel(str(snapshot.folder), **given)
                given["device_map"] = layers.device_map(pieces_of(without_weights._module), parts)
            model = TransformersModel(str(snapshot.folder), dispatch=True, **given)
    except layers.DoesNotFit as error:
        raise ModelUnusable(f"{entry.id} cannot be spread over devices: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelUnusable(_why(snapshot, entry, error)) from error  # what transformers raises on bad files
    _rename(model, entry)
    module: torch.nn.Module = model._module
    module.eval()
    module.requires_grad_(False)
    if entry.dtype == "int8":
        to_int8(module, entry.id)
    keep_four_bits(module)
    return model


def device_of(module: torch.nn.Module, parts: Sequence[tuple[str, int]]) -> Callable[[str], str]:
    """The device of each parameter and buffer by its name; of several, ``module`` learns which layer goes where.

    Args:
        parts: as :func:`load` has them.

    Raises:
        ModelUnusable: the parts are too small.
    """
    if len(parts) == 1:
        return lambda _: parts[0][0]
    try:
        placed = layers.device_map(pieces_of(module), parts)
    except layers.DoesNotFit as error:
        raise ModelUnusable(f"{module.name_or_path} cannot be spread over devices: {error}") from error
    module.hf_device_map = placed

    def find(name: str) -> str:
        return max((path for path in placed if f"{name}.".startswith(f"{path}.")), key=len)

    return lambda name: placed[find(name)]


def pieces_of(module: torch.nn.Module) -> tuple[layers.Piece, ...]:
    """The pieces that ``module`` can be cut into, in the order of the forward pass; it may be on the meta device."""
    first: dict[int, str] = {}
    weights = {id(parameter) for parameter in module.parameters()}
    found: list[layers.Tensor] = []
    named = (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    )
    for name, tensor in named:
        beside = first.setdefault(id(tensor), name)
        size = tensor.numel() * tensor.element_size()
        found.append(layers.Tensor(name, size, "" if beside == name else beside, id(tensor) in weights))
    return layers.cut(found)


def _why(snapshot: Snapshot, entry: ModelEntry, error: Exception) -> str:
    """What happened and what the operator can do about it."""
    if "trust_remote_code" in str(error):
        return (
            f"{entry.id} comes with Python code of its own, which is not run unless you trust it: read it, then set "
            "`trust_remote_code = true` in models.toml."
        )
    said = " ".join(str(error).split())[:300]
    return (
        f"{entry.id} cannot be loaded from {snapshot.folder} ({type(error).__name__}: {said}): "
        f"check it with `python -m edif_backend.models prepare --verify {entry.id}`."
    )


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
