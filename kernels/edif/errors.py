"""What can go wrong between a notebook and the backend, each with one sentence that says what to do.

::

    EdifError
    ├── BackendUnreachable       nobody answers at the backend's address
    │   └── TraceUnreachable     … while a trace was sent (edif.remote; also a RemoteError of nnsight)
    ├── BackendRefused           the backend answered no
    ├── TraceRefused             … to a trace (edif.remote; also a RemoteError of nnsight)
    ├── JobFailed                the job ended without a result
    │   └── TraceFailed          … while its trace waited for it (edif.remote; also a RemoteError of nnsight)
    ├── MethodStopped            a method was interrupted; it holds the partial result (edif.beside)
    ├── SweepStopped             a sweep was interrupted or cancelled; it holds the partial result (edif.interventions)
    ├── NotKept                  a value is not kept (edif.keep) or not found (edif.kept)
    ├── ModelUnknown             the backend does not serve this model (also an OSError, as transformers raises)
    └── WeightsElsewhere         something would run in this process, and the weights are on the backend

Raised in the user's process.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

#: Code that is not the user's: a traceback stops before it.
#: Packages whose frames are nobody's own lines.
_INNER = ("nnsight", "edif", "edif_kernel", "httpx", "wrapt", "IPython", "ipykernel")


class EdifError(Exception):
    """``str(error)`` is the whole message; in a notebook it is shown with the user's line and no inner frames."""

    def _render_traceback_(self) -> list[str]:
        """IPython asks an exception for its own rendering by this name."""
        lines = [
            f"----> {frame.lineno} {frame.line}"
            for frame in traceback.extract_tb(self.__traceback__)
            if not frame.filename.startswith(_inner_folders())
        ]
        message = str(self)
        if not message.startswith("Traceback"):  # the traceback of a block says itself what was raised
            message = f"{type(self).__name__}: {message}"
        return [*lines[-1:], "", message]


def _inner_folders() -> tuple[str, ...]:
    """Where the inner packages lie, as far as they are loaded: by folder, for a user's own may have any name."""
    loaded = (sys.modules.get(name) for name in _INNER)
    return tuple(str(Path(module.__file__).parent) + os.sep for module in loaded if module and module.__file__)


class BackendUnreachable(EdifError):
    """Nobody answers at the backend's address."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The eDIF backend at {host} does not answer. Try again in a minute; whoever runs it finds the reason with"
            " `edif status`."
        )


class BackendRefused(EdifError):
    """The backend answered no; the sentence is its own."""


class JobFailed(EdifError):
    """The job ended without a result: the traceback of the user's block, or the reason why it was stopped."""


class NotKept(EdifError):
    """A value is not kept, or nothing is kept by that name; the sentence says why."""


class ModelUnknown(EdifError, OSError):
    """The backend does not serve this model; the sentence is its own and lists those that it does."""


class WeightsElsewhere(EdifError):
    """Something would run in this process, and the weights are on the backend."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The weights of {model} stay on the backend, so nothing can run on them here. Write `with model.trace(…):`"
            " or `with model.generate(…):`, without remote=False, and the block runs there."
        )
