"""What a machine offers to models, as its node of the Ray cluster reports it: memory, warm memory, devices.

Pure.  Written when a node is started (:mod:`edif_backend.cli.ray_node`), read by the dispatcher
(:mod:`edif_backend.replicas.nodes`).  A node with devices of its own holds its models on these, and in its memory
what goes beside them; any other holds them in its memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

#: A device that is none: what is said to lie there lies in the host's memory, so that placement can be tried anywhere.
SIMULATED = "simulated:"

_DEVICE, _WARM = "edif-device:", "edif-warm"
_GPU = "cuda:"
_OF_EVERY_GPU = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")

#: What CUDA takes of a GPU in each process that uses it, before any tensor.
CONTEXT_BYTES = 600 << 20

#: Device and bytes, in the order of the forward pass.
Shares = Sequence[tuple[str, int]]


def resources(warm_bytes: int, devices: Shares) -> dict[str, int]:
    """Ray's custom resources that say so; Ray counts nothing with them."""
    return {_WARM: warm_bytes, **{f"{_DEVICE}{name}": size for name, size in devices if size}}


def warm_bytes(reported: Mapping[str, float]) -> int:
    """What models that wait may take of a node's memory, by its resources."""
    return int(reported.get(_WARM, 0))


def devices(reported: Mapping[str, float]) -> tuple[tuple[str, int], ...]:
    """The devices of a node and their bytes, by its resources."""
    found = [(name.removeprefix(_DEVICE), int(size)) for name, size in reported.items() if name.startswith(_DEVICE)]
    return tuple(sorted(found))


def simulated(sizes: Iterable[int]) -> tuple[tuple[str, int], ...]:
    """Devices of these sizes that only pretend."""
    return tuple((f"{SIMULATED}{number}", size) for number, size in enumerate(sizes))


def for_torch(shares: Shares) -> list[tuple[str, int]]:
    """The same in torch's words."""
    return [("cpu" if name.startswith(SIMULATED) else name, size) for name, size in shares]


def kept(shares: Shares) -> Shares:
    """Those of ``shares`` whose weights a keeper holds: all, unless they only pretend."""
    return () if any(name.startswith(SIMULATED) for name, _ in shares) else shares


def nodes(shares: Shares) -> tuple[str, ...]:
    """What of ``/dev`` the GPUs among ``shares`` need; nothing when there are none.  ``cuda:3`` is ``/dev/nvidia3``."""
    numbers = _gpus(shares)
    return (*(f"/dev/nvidia{number}" for number in numbers), *_OF_EVERY_GPU) if numbers else ()


def inside(shares: Shares) -> tuple[tuple[str, int], ...]:
    """``shares`` by the names that they have in a jail, which shows its own GPUs alone: CUDA numbers them from 0."""
    places = {f"{_GPU}{number}": f"{_GPU}{place}" for place, number in enumerate(_gpus(shares))}
    return tuple((places.get(device, device), size) for device, size in shares)


def _gpus(shares: Shares) -> list[int]:
    return sorted(int(device.removeprefix(_GPU)) for device, _ in shares if device.startswith(_GPU))
