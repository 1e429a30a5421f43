"""User code that mixes devices: operands of one operation that lie on several are brought together.

A model may be spread over GPUs by its layers, and a block that adds an activation of layer 2 to layer 10 cannot
know that they lie on different ones.  Within :class:`Mixing` that works: the operands are moved as ``.to()`` moves them
(gradients flow back), and the user is told once a job.  Used by the executor of a model that is on devices of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

_HOST = torch.device("cpu")

#: Operations that may meet tensors of several devices, or that are asked where the tensors are.
_FREE = frozenset(
    {
        *(Tensor.to, Tensor.copy_, Tensor.type_as, Tensor.set_, Tensor.backward, Tensor.__deepcopy__),
        *(Tensor.data.__set__, torch.autograd.grad, torch.autograd.backward),
    }
)


def operands_moved(module: torch.nn.Module, say: Callable[[str], None]) -> AbstractContextManager[object]:
    """Within, code may mix devices, if ``module`` was loaded onto any; on the CPU alone nothing is changed."""
    return Mixing(say) if on_devices(module) else nullcontext()


def on_host(module: torch.nn.Module, saved: dict[str, Any]) -> dict[str, Any]:
    """``saved`` with its tensors on the host, where the client will have them."""
    if not on_devices(module):
        return saved
    moved: dict[str, Any] = tree_map_only(Tensor, lambda tensor: tensor.detach().cpu(), saved)
    return moved


def on_devices(module: torch.nn.Module) -> bool:
    """Whether ``module`` lies elsewhere than on the host, or is spread over devices that stand for such."""
    spread = bool(getattr(module, "hf_device_map", None))  # transformers', of a model loaded with one
    return spread or next(module.parameters(), torch.empty(0)).device != _HOST


class Mixing(TorchFunctionMode):
    """Within, operands of one operation are brought to one device.

    The device is that of the tensor written to (in place, ``out=``), else of the first parameter among them, which is
    larger than what meets it, else of the first operand that is not on the host.  Numbers (0-d) of the host may stay.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._told = False
        self._engine: Any = None

    def __enter__(self) -> Self:
        # Hooks that run during a backward pass are user code too, but torch takes the mode off while the operation
        # that the mode was asked about runs; here it is put on again.
        self._engine = torch.autograd._engine_run_backward
        torch.autograd._engine_run_backward = self._within(self._engine)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        torch.autograd._engine_run_backward = self._engine

    def _within(self, engine: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(engine)
        def run(*args: Any, **kwargs: Any) -> Any:
            with _Again(self):
                return engine(*args, **kwargs)

        return run

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _mixed(args, kwargs) or func in _FREE:
            return func(*args, **kwargs)
        target = _target(func, args, kwargs)
        self._notice(func, args, kwargs, target)
        return func(*_moved(args, target), **{name: _moved(value, target) for name, value in kwargs.items()})

    def _notice(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], target: torch.device) -> None:
        if self._told:
            return
        self._told = True
        source = next(t.device for t in _tensors((*args, *kwargs.values())) if t.device != target and t.ndim)
        name = getattr(func, "__name__", str(func)).strip("_")
        self._say(
            f"Tensors of several devices met ({name}: {source} and {target}). Such operands are moved for you; "
            "use .to(tensor.device) to choose where yourself. This is said once a job."
        )


class _Again(TorchFunctionMode):
    """A mode that is put on again while its own operation runs."""

    def __init__(self, mode: Mixing) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._mode.__torch_function__(func, types, args, kwargs)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _mixed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether operands, but for numbers of the host, lie on more than one device."""
    first: torch.device | None = None
    for tensor in _tensors((*args, *kwargs.values()) if kwargs else args):
        device = tensor.device
        if device == _HOST and not tensor.ndim:
            continue
        if first is None:
            first = device
        elif device != first:
            return True
    return False


def _target(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device:
    written = next(written_by(func, args, kwargs), None)
    if written is not None:
        return written.device
    operands = list(_tensors((*args, *kwargs.values())))
    weights = (operand for operand in operands if isinstance(operand, torch.nn.Parameter))
    elsewhere = (operand for operand in operands if operand.device != _HOST)
    return next(weights, next(elsewhere, operands[0])).device


def written_by(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that a call of ``func`` changes: those of ``out=``, else the first operand of what works in place."""
    if kwargs.get("out") is not None:
        yield from _tensors([kwargs["out"]])
    elif args and _writes(getattr(func, "__name__", "")):
        first = list(_tensors(args[:1]))  # a list of them, for those that work on many at once
        yield from first or itertools.islice(_tensors(args), 1)


def _writes(name: str) -> bool:
    """Whether the operation of this name changes its first operand."""
    if name.startswith("__"):
        return name in ("__setitem__", "__set__") or (name.startswith("__i") and name not in _ASKING)
    return name.endswith("_")


_ASKING = ("__invert__", "__int__", "__index__", "__iter__")


def _moved(value: Any, target: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value if value.device == target or (value.device == _HOST and not value.ndim) else value.to(target)
    if isinstance(value, list):
        return [_moved(part, target) for part in value]
    if isinstance(value, tuple):
        parts = [_moved(part, target) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
