"""A model cut by layers: which pieces there are, how large each is, and which device gets which.

Pure.  The pieces come in the order of the forward pass: what comes before the first layer (embeddings, and all that
holds no weights of its own), each layer, what comes after the last.  The dispatcher's placement counts in their sizes;
the process that loads the model says to transformers, by names of modules, where each goes.  Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LAYER = re.compile(r"(?P<stack>(?:.*?\.)?(?:layers|h|blocks|block))\.(?P<number>\d+)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight or buffer, by its name in the model; tied ones are named once, with ``size_bytes`` of the first."""

    name: str
    size_bytes: int
    beside: str = ""  #: the name of the tensor whose memory it is
    weight: bool = True  #: not a buffer that is computed anew


@dataclass(frozen=True, slots=True)
class Piece:
    """What cannot be cut further."""

    modules: tuple[str, ...]
    size_bytes: int


class DoesNotFit(Exception):
    """The pieces do not fit the parts; the message says how large both are."""


def is_inside(name: str) -> bool:
    """Whether a tensor of this name is part of a layer."""
    return _LAYER.match(name) is not None


def cut(tensors: Iterable[Tensor]) -> tuple[Piece, ...]:
    """The pieces of a model with these tensors, in the order of the forward pass."""
    modules: dict[int, dict[str, None]] = {}
    sizes: dict[int, int] = {}
    place_of: dict[str, int] = {}
    tensors = tuple(tensors)
    last = 1 + max((number for tensor in tensors if (number := _number(tensor.name)) is not None), default=-1)
    reached = False
    for tensor in tensors:
        found = _LAYER.match(tensor.name)
        if found:
            reached = True
            place, module = int(found["number"]), f"{found['stack']}.{found['number']}"
        else:
            place = last if reached and tensor.weight else -1
            module = tensor.name.rpartition(".")[0]
        place = place_of[tensor.name] = place_of.get(tensor.beside, place)
        modules.setdefault(place, {})[module] = None
        sizes[place] = sizes.get(place, 0) + (0 if tensor.beside else tensor.size_bytes)
    return tuple(Piece(tuple(modules[place]), sizes[place]) for place in sorted(modules))


def _number(name: str) -> int | None:
    found = _LAYER.match(name)
    return int(found["number"]) if found else None


def device_map(pieces: Sequence[Piece], parts: Sequence[tuple[str, int]]) -> dict[str, str]:
    """The device of each module: pieces in order, each part with its share of them, and none with more than it has.

    Where shares would be too much for a part, each takes as many as it has bytes for.

    Args:
        parts: devices, and the bytes that each has for the model and its jobs, in the order of the forward pass.

    Raises:
        DoesNotFit: they hold less than the pieces need, or a piece is larger than what is left of a part.
    """
    if shared := _shared(pieces, parts):
        return shared
    placed: dict[str, str] = {}
    left = list(parts)
    room = left[0][1] if left else 0
    for piece in pieces:
        while left and piece.size_bytes > room:
            left.pop(0)
            room = left[0][1] if left else 0
        if not left:
            whole, given = sum(piece.size_bytes for piece in pieces), sum(size for _, size in parts)
            raise DoesNotFit(
                f"The model's {len(pieces)} pieces of {whole:,} bytes do not fit into {len(parts)} parts of {given:,}."
            )
        room -= piece.size_bytes
        placed.update(dict.fromkeys(piece.modules, left[0][0]))
    return placed


def _shared(pieces: Sequence[Piece], parts: Sequence[tuple[str, int]]) -> dict[str, str]:
    """Each piece where its middle falls when the parts are laid along the model; nothing where one has too little."""
    whole, given = sum(piece.size_bytes for piece in pieces), sum(size for _, size in parts)
    placed: dict[str, str] = {}
    rooms = [size for _, size in parts]
    before, place, passed = 0, 0, 0
    for piece in pieces:
        middle = (before + piece.size_bytes / 2) * given
        while place < len(parts) - 1 and middle > (passed + parts[place][1]) * whole:
            passed += parts[place][1]
            place += 1
        before += piece.size_bytes
        if not rooms or rooms[place] < piece.size_bytes:
            return {}
        rooms[place] -= piece.size_bytes
        placed.update(dict.fromkeys(piece.modules, parts[place][0]))
    return placed


def evenly(pieces: Sequence[Piece], devices: Sequence[str]) -> list[tuple[str, int]]:
    """Parts of about the same size on these devices, each with at least one piece where there are enough."""
    parts: list[tuple[str, int]] = []
    left = list(pieces)
    for taken, device in enumerate(devices):
        remaining = len(devices) - taken
        goal = sum(piece.size_bytes for piece in left) / remaining
        size, count = 0, 0
        while len(left) > remaining - 1 and (not count or size + left[0].size_bytes / 2 <= goal or remaining == 1):
            size += left.pop(0).size_bytes
            count += 1
        if count:
            parts.append((device, size))
    return parts
