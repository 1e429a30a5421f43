"""Weights held in fewer bits than any of torch's numbers: int8 by torchao, four bits by bitsandbytes.

Called when a model is loaded, in the zygote, on the host.  Neither library is among the ordinary packages: transformers
imports torchao wherever it finds it, which would cost every kernel a third of a second and lines of warnings
(``docs/decisions``).  ``./edif setup`` puts each into a folder of its own, and only a process that loads such a model
looks there.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from edif_backend.errors import ModelUnusable

_FOLDERS = Path(sys.prefix) / "share" / "edif"
_INT8, _FOUR_BITS = _FOLDERS / "int8", _FOLDERS / "four-bits"


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


def four_bits(kind: str) -> dict[str, Any]:
    """What ``from_pretrained`` is to be given, so that it holds linear layers in four bits, a scale for each 64.

    They are computed with in bfloat16; embeddings and the output layer stay as they are.

    Args:
        kind: ``nf4`` (Dettmers et al. 2023, QLoRA, section 3) or ``fp4``.

    Raises:
        ModelUnusable: bitsandbytes is not installed.
    """
    if str(_FOUR_BITS) not in sys.path:
        sys.path.append(str(_FOUR_BITS))
    try:
        import bitsandbytes  # noqa: F401, PLC0415 - whether it is there
    except ImportError as error:
        raise ModelUnusable(f"{kind} needs bitsandbytes, which is not in {_FOUR_BITS}: run `./edif setup`.") from error
    from transformers import BitsAndBytesConfig  # noqa: PLC0415 - asks for it

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=False,
    )
    return {"quantization_config": config, "device_map": "cpu"}


def keep_four_bits(module: torch.nn.Module) -> None:
    """Keep layers of four bits from packing their weights anew at their first forward pass on some processors."""
    for part in module.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False


def use_gpu_kernels() -> None:
    """In an executor that has come to its GPU: let bitsandbytes, imported without it, use its kernels."""
    if "bitsandbytes" in sys.modules:
        from bitsandbytes import cextension  # noqa: PLC0415 - of a model of four bits alone

        cextension.lib = cextension.get_native_library()
        import bitsandbytes.backends.cuda.ops  # noqa: F401, PLC0415 - registers them


def named_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers by their names, and what weights of four bits are read with, each once."""
    seen: set[int] = set()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield name, tensor
        if state := getattr(tensor, "quant_state", None):
            for part in ("absmax", "code"):
                beside = getattr(state, part)
                if id(beside) not in seen:
                    seen.add(id(beside))
                    yield f"{name}.{part}", beside


def plain_tensors(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """All of :func:`named_tensors`, and of those that are made of several tensors these."""
    for _, tensor in named_tensors(module):
        yield from _parts(tensor)


def parameters_of(module: torch.nn.Module) -> int:
    """How many parameters ``module`` has; two of four bits lie in one byte."""
    states = ((getattr(weight, "quant_state", None), weight) for weight in module.parameters())
    return sum(math.prod(state.shape) if state else weight.numel() for state, weight in states)


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
    else:
        yield tensor


@contextlib.contextmanager
def _torchao() -> Iterator[None]:
    """torchao can be imported, and says nothing about the GPU kernels that are not for this machine."""
    sys.path.append(str(_INT8))
    os.environ["TORCHAO_FORCE_SKIP_LOADING_SO_FILES"] = "1"
    logging.getLogger("torchao").setLevel(logging.ERROR)
    try:
        import torchao  # noqa: F401, PLC0415 - whether it is there
    except ImportError as error:
        raise ModelUnusable(f"int8 needs torchao, which is not in {_INT8}: run `./edif setup`.") from error
    yield
