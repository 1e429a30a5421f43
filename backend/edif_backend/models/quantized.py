"""Weights held in fewer bits than any of torch's numbers: int8 by torchao, on the CPU.

Called when a model is loaded, in the zygote.  torchao is not among the ordinary packages: transformers imports it
wherever it finds it, which would cost every kernel a third of a second and lines of warnings (``docs/decisions``).
``./edif setup`` puts it into a folder of its own, and only a process that loads such a model looks there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from edif_backend.errors import ModelUnusable

FOLDER = Path(sys.prefix) / "share" / "edif" / "int8"


def to_int8(module: torch.nn.Module, name: str) -> None:
    """Hold the weights of linear layers in int8, one scale a row; embeddings and the output layer stay as they are.

    Activations stay float32, and a layer's ``weight`` can be read and computed with as before.

    Raises:
        ModelUnusable: torchao is not installed, or the model has no such layers.
    """
    output = module.get_output_embeddings()
    layers = [part for part in module.modules() if type(part) is torch.nn.Linear and part is not output]
    if not layers:
        raise ModelUnusable(
            f"{name} cannot be loaded as int8: it has no linear layers that torchao quantizes "
            "(GPT-2 has another kind). Choose float32 or bfloat16 in models.toml."
        )
    with _torchao():
        from torchao.quantization import Int8WeightOnlyConfig, quantize_  # noqa: PLC0415 - found only now

        wanted = set(map(id, layers))
        quantize_(module, Int8WeightOnlyConfig(), filter_fn=lambda part, _: id(part) in wanted)


def plain_tensors(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Parameters and buffers, and of those that are made of several tensors these."""
    for tensor in (*module.parameters(), *module.buffers()):
        yield from _parts(tensor)


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
    else:
        yield tensor


@contextlib.contextmanager
def _torchao() -> Iterator[None]:
    """torchao can be imported, and says nothing about the GPU kernels that are not for this machine."""
    sys.path.append(str(FOLDER))
    os.environ["TORCHAO_FORCE_SKIP_LOADING_SO_FILES"] = "1"
    logging.getLogger("torchao").setLevel(logging.ERROR)
    try:
        import torchao  # noqa: F401, PLC0415 - whether it is there
    except ImportError as error:
        raise ModelUnusable(f"int8 needs torchao, which is not in {FOLDER}: run `./edif setup`.") from error
    yield
