"""An executor's model on devices: the keeper's blocks mapped, the weights views of them, a user's writes on copies.

Called by the zygote's forks behind their walls, before their first job; the first use of CUDA in each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from edif_backend.executors import device_memory
from edif_backend.executors.mixing import written_by
from edif_backend.executors.weights_keeper import SharedBlock
from edif_backend.executors.weights_layout import Layout, view_at
from edif_backend.models.quantized import use_gpu_kernels


def attach(module: torch.nn.Module, layout: Layout, shared: Sequence[SharedBlock], job_bytes: int) -> None:
    """Map ``shared`` and let the weights of ``module`` be views of it.

    Args:
        job_bytes: device memory that torch may take in this process, on each device; 0: no limit.

    Raises:
        DeviceMemoryError, RuntimeError: the device refused; most often it has no room for one more process.
    """
    device_memory.show_gpus()
    for block in shared:
        if block.device != "cpu":
            device = torch.device(block.device)
            torch.zeros(1, device=device)  # the driver's calls need a context
            if job_bytes:
                whole = torch.cuda.get_device_properties(device).total_memory
                torch.cuda.set_per_process_memory_fraction(min(1.0, job_bytes / whole), device)
    if any(block.device != "cpu" for block in shared):
        use_gpu_kernels()
    blocks = [device_memory.open_shared(block.descriptor, block.device, block.size_bytes).tensor() for block in shared]
    layout.rebind(blocks)
    if len(layout.devices) > 1:
        _let_activations_follow(module)


def _let_activations_follow(module: torch.nn.Module) -> None:
    """Hooks that bring what a layer is given to its device, as transformers sets them for a model it spreads."""
    from accelerate import dispatch_model

    dispatch_model(
        module, device_map=module.hf_device_map, force_hooks=True, skip_keys=module._skip_keys_device_placement
    )


def writes_on_copies(layout: Layout | None) -> AbstractContextManager[object]:
    """Within, a write to a weight changes a copy that this executor alone has, as it does on the CPU.

    Args:
        layout: of weights that this process has attached; None: they are the host's, whose pages do that by themselves.
    """
    return CopyOnWrite(layout) if layout else nullcontext()


class CopyOnWrite(TorchFunctionMode):
    """Within, an operation that would write to a shared weight finds a private copy in its place.

    It sees torch's Python functions; what writes otherwise (a kernel of the user's own) meets memory that it may only
    read, which ends the job.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        found = [(place.tensors[0].untyped_storage().data_ptr() + place.start, place) for place in layout.places]
        self._places = sorted(found, key=lambda one: one[0])
        self._starts = [start for start, _ in self._places]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in written_by(func, args, kwargs):
            self._make_private(tensor)
        return func(*args, **kwargs)

    def _make_private(self, tensor: torch.Tensor) -> None:
        """Copy the weight that ``tensor`` is (a part of), and let it and the model be views of the copy."""
        address = tensor.data_ptr() if tensor.numel() else 0
        number = bisect_right(self._starts, address) - 1
        if number < 0 or address >= self._starts[number] + self._places[number][1].size_bytes:
            return
        start, place = self._places[number]
        whole = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
        copy = whole[place.room].clone()
        for one in (*place.tensors, tensor):
            if start <= one.data_ptr() < start + place.size_bytes:
                one.data = view_at(copy, one.data_ptr() - start, one)
