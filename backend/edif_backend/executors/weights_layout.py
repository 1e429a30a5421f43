"""Where each weight of a model lies in the blocks of device memory that its keeper and its executors share.

Made by the zygote, whose forks they are: all of them know the same tensors, so a place is good in each.  Imported
inside the jail alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from edif_backend.models.quantized import named_tensors

#: Where a tensor may begin: what kernels read is read in pieces as long.
_ALIGNED_BYTES = 512


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of one of the model's storages: which block holds it, where, and the tensors that are views of it."""

    block: int
    start: int
    storage: torch.UntypedStorage  #: the host's; that of a whole file, where it is mapped
    first: int  #: where the stretch begins in it
    size_bytes: int
    tensors: tuple[torch.Tensor, ...]

    @property
    def room(self) -> slice:
        """What of its block is its own: a little more than the stretch, so that any kind of number fits in whole."""
        return slice(self.start, self.start + _aligned(self.size_bytes))


@dataclass(frozen=True, slots=True)
class Layout:
    """All of a model's tensors in blocks, one block a device."""

    devices: tuple[str, ...]
    sizes: tuple[int, ...]  #: bytes of each block
    places: tuple[Place, ...]

    @classmethod
    def of(cls, module: torch.nn.Module, devices: Sequence[str], device_of: Callable[[str], str]) -> Layout:
        """The layout of ``module``, which lies on the host.

        Args:
            devices: in the order of the forward pass; a device that holds nothing has an empty block.
            device_of: the device of a parameter or buffer, by its name; tied ones lie where the first of them does.
        """
        sizes, places = dict.fromkeys(devices, 0), []
        for name, first, size_bytes, tensors in _stretches(module):
            device, storage = device_of(name), tensors[0].untyped_storage()
            places.append(Place(list(devices).index(device), sizes[device], storage, first, size_bytes, tensors))
            sizes[device] += _aligned(size_bytes)
        return cls(tuple(devices), tuple(sizes.values()), tuple(places))

    def copy_into(self, blocks: Sequence[torch.Tensor]) -> None:
        """Write the host's weights into ``blocks``, each ``# (size_bytes,)`` of uint8."""
        for place in self.places:
            source = torch.empty(0, dtype=torch.uint8).set_(place.storage)
            target = blocks[place.block][place.room][: place.size_bytes]
            target.copy_(source[place.first : place.first + place.size_bytes])

    def rebind(self, blocks: Sequence[torch.Tensor]) -> None:
        """Let every tensor of the model be a view of ``blocks``; parameters stay the objects they are."""
        for place in self.places:
            host = place.storage.data_ptr() + place.first
            for tensor in place.tensors:
                tensor.data = view_at(blocks[place.block][place.room], tensor.data_ptr() - host, tensor)


def view_at(data: torch.Tensor, offset: int, like: torch.Tensor) -> torch.Tensor:
    """``like`` over other bytes: as it is shaped, ``offset`` bytes into ``data``, ``# (n,)`` of uint8."""
    place = (data.storage_offset() + offset) // like.element_size()
    return data.view(like.dtype).as_strided(like.shape, like.stride(), place)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES


def _stretches(module: torch.nn.Module) -> Iterator[tuple[str, int, int, tuple[torch.Tensor, ...]]]:
    """The tensors of ``module`` in groups that share bytes: the name of one, the first byte, how many, which tensors.

    Tied weights are one group.  Weights of a mapped file share its storage, and no bytes.
    """
    spans: dict[int, list[tuple[int, int, str, torch.Tensor]]] = {}
    for name, tensor in named_tensors(module):
        if tensor.numel():
            base = tensor.untyped_storage().data_ptr()
            reach = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
            low = tensor.data_ptr() - base
            spans.setdefault(base, []).append((low, low + reach * tensor.element_size(), name, tensor))
    for found in spans.values():
        group: list[tuple[int, int, str, torch.Tensor]] = []
        for span in sorted(found, key=lambda span: span[0]):
            if group and span[0] >= max(high for _, high, _, _ in group):
                yield _joined(group)
                group = []
            group.append(span)
        yield _joined(group)


def _joined(group: list[tuple[int, int, str, torch.Tensor]]) -> tuple[str, int, int, tuple[torch.Tensor, ...]]:
    first, name = group[0][0], group[0][2]
    return name, first, max(high for _, high, _, _ in group) - first, tuple(tensor for *_, tensor in group)
