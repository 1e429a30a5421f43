"""Devices that are not there: ``cpu:1``, ``cpu:2`` … hold real numbers and do not mix, as GPUs do not.

A tensor of such a device is a wrapper around one of the host's that says it lies elsewhere, to autograd too.  What
several of them meet in is computed on the host if all lie on one device and refused otherwise, by the rules of CUDA: a
number of the host (0-d) may take part, indices may lie on the host, copies go anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

HOST = torch.device("cpu")
_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default, _aten.set_.source_Tensor}
_INDEXED = {_aten.index.Tensor, _aten.index_put_.default, _aten._index_put_impl_.default, _aten.index_put.default}


class OnDevice(torch.Tensor):
    """Numbers of the host that lie on a simulated device."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> Self:
        strides, offset = held.stride(), held.storage_offset()
        made: OnDevice = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), strides=strides, storage_offset=offset, dtype=held.dtype, device=device
        )
        made.held = held
        return made

    def data_ptr(self) -> int:
        """What accelerate knows tied weights by."""
        return self.held.data_ptr()

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.held!r}, {self.device})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class SimulatedDevices(TorchDispatchMode):
    """Within, tensors can be made on and moved to them."""

    def __init__(self) -> None:
        super().__init__()
        self._making = _Making()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})

    def __enter__(self) -> Self:
        self._making.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._making.__exit__(*error)


class _Making(TorchFunctionMode):
    """What the dispatcher does not see: tensors made of Python's numbers, and numbers of Python made of them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is torch.Tensor.tolist and isinstance(args[0], OnDevice):
            return args[0].held.tolist()
        return func(*args, **kwargs)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    device = _meeting_place(func, args, kwargs)
    asked = kwargs.get("device")
    if asked is not None:
        device = torch.device(asked)
        kwargs = {**kwargs, "device": HOST}
    elif func in _COPIES and args:
        device = args[0].device
    host_args, host_kwargs = tree_map_only(OnDevice, lambda tensor: tensor.held, (args, kwargs))
    came = func(*host_args, **host_kwargs)
    if device == HOST:
        return came if asked is None else _plain(came)
    placed = tree_map_only(torch.Tensor, lambda tensor: OnDevice(tensor, device), came)
    return return_and_correct_aliasing(func, args, kwargs, placed)


def _plain(came: Any) -> Any:
    return tree_map_only(OnDevice, lambda tensor: tensor.held, came)


def _meeting_place(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device:
    operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if func in _COPIES:
        return HOST
    if func in _INDEXED:
        for index in args[1]:
            if index is not None and index.device not in (HOST, args[0].device):
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor")
        operands = [args[0], *(value for value in args[2:] if isinstance(value, torch.Tensor))]
    devices = {operand.device for operand in operands if operand.device != HOST or operand.ndim}
    if len(devices) > 1:
        named = " and ".join(sorted(map(str, devices)))
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {named}! ({func})"
        )
    return devices.pop() if devices else HOST
