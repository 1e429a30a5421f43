"""Slices go out alone: of a saved view its own numbers are written, and not the tensor that it is a part of.

``torch.save`` writes the whole storage behind a view, so that the last position's logits would take all logits along.
Called by :mod:`edif_backend.executors.packing`; runs in the executor, inside the jail.
"""

from __future__ import annotations

import pickle
from typing import Any

import torch


class Slices:
    """What ``torch.save`` takes for its ``pickle_module``; one for each writing."""

    __name__ = "pickle"  # torch asks by it whether it is dill

    def __init__(self) -> None:
        self._copied_bytes: dict[int, int] = {}  # by storage

        reduced = self._reduced

        class Pickler(pickle.Pickler):
            def reducer_override(self, obj: Any) -> Any:
                return reduced(obj) if type(obj) is torch.Tensor else NotImplemented

        self.Pickler = Pickler

    def _reduced(self, tensor: torch.Tensor) -> Any:
        """The pickle of a copy, for a view that is a small part; as it is written otherwise, for the rest.

        Copies of one storage have half its bytes at most: views that overlap may be many, and several that make up
        the whole are written with it once.
        """
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or vars(tensor):
            return NotImplemented
        storage = tensor.untyped_storage()
        at = storage.data_ptr()
        copied_bytes = self._copied_bytes.get(at, 0) + tensor.numel() * tensor.element_size()
        if copied_bytes > storage.nbytes() // 2:
            return NotImplemented
        self._copied_bytes[at] = copied_bytes
        copy = tensor.detach().clone(memory_format=torch.contiguous_format)
        return copy.requires_grad_(tensor.requires_grad).__reduce_ex__(pickle.DEFAULT_PROTOCOL)
