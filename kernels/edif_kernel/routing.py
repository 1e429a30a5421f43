"""Where a trace goes when the user does not say: to the backend, unless the model's weights are in this kernel.

Installed by :mod:`edif_kernel.startup`, runs in the kernel's process.  Only ``trace`` and ``session`` (and with them
``generate`` and ``pipe``, which open a trace) are touched, and only where nothing was said: with ``remote=`` or
``backend=`` given, with ``trace=False``, and inside a running trace or session, plain nnsight decides.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import wrapt

REMOTABLE = "nnsight.modeling.mixins.remotable"


class Mode(enum.StrEnum):
    """What happens to a trace that does not say where it runs."""

    AUTO = "auto"  #: To the backend when the weights are not loaded in this kernel.
    ON = "on"  #: Always to the backend.
    OFF = "off"  #: Never: as in plain nnsight, weights are loaded into this kernel.


class Routing:
    """The kernel's choice, changed by ``%edif remote``, and its installation into nnsight."""

    def __init__(self) -> None:
        self.mode = Mode.AUTO

    def install_when_nnsight_is_imported(self) -> None:
        """Wrap nnsight's models as soon as the user imports them (at once if that has happened already)."""
        wrapt.register_post_import_hook(lambda _module: self.install(), REMOTABLE)

    def install(self) -> None:
        """Wrap ``Remotable.trace`` and ``.session``, and send remote traces over the kept connection."""
        wrapt.wrap_function_wrapper(REMOTABLE, "Remotable.trace", self._routed)
        wrapt.wrap_function_wrapper(REMOTABLE, "Remotable.session", self._routed)
        wrapt.wrap_function_wrapper(REMOTABLE, "Remotable._remote_backend", _over_kept_connection)

    def goes_remote(self, model: Any) -> bool:
        """Whether a trace on ``model`` that does not say where it runs is sent to the backend."""
        if self.mode is Mode.AUTO:
            return not model.dispatched
        return self.mode is Mode.ON

    def _routed(self, wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _already_decided(wrapped, args, kwargs) and not _inside_trace() and self.goes_remote(model):
            kwargs = {**kwargs, "remote": True}
        return wrapped(*args, **kwargs)


def _already_decided(wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the call says itself where it runs; ``session`` takes its backend by position too."""
    if wrapped.__name__ == "session" and args:
        return True
    return "remote" in kwargs or kwargs.get("backend") is not None or kwargs.get("trace") is False


def _inside_trace() -> bool:
    """Whether a trace or session is running in this thread: what is opened inside belongs to it."""
    from nnsight.tracing import tracer  # noqa: PLC0415 (called from inside nnsight only, never before its import)

    return int(getattr(tracer._local, "depth", 0)) > 0


def _over_kept_connection(
    wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """nnsight's ``_remote_backend``, with its transport replaced by the one that keeps its connections."""
    from edif.remote import keep_connections  # noqa: PLC0415 (imports nnsight, as the user has done by now)

    return keep_connections(model, lambda: wrapped(*args, **kwargs))
