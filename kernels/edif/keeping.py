"""Values that stay where the model is: ``edif.keep`` and ``edif.kept`` inside traces, ``edif.forget`` outside.

In a job on the server they reach the shelf that its executor has installed; in a trace of this process
(``remote=False``) they have a shelf here, which ends with the process.  Outside of a trace ``edif.kept()`` asks the
gateway.  Brings torch only when a value is packed or unpacked.
"""

from __future__ import annotations

import functools
import io
import pydoc
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any, TypeVar, cast, overload
from urllib.parse import quote

from edif.errors import NotKept
from edif.serving import ask
from edif.tables import Table
from edif_protocol import shelf
from edif_protocol.wording import size, span

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class KeptValue:
    """One value on the server, without its content."""

    name: str
    bytes: int
    model: str  #: that made it
    job: str
    age_s: float
    left_s: float  #: until it goes, if no job uses it meanwhile


class KeptValues(Table[KeptValue]):
    """What you keep on the server; shown as a table."""

    COLUMNS = ("name", "size", "made on", "kept", "goes in")
    EMPTY = "You keep nothing on the server: edif.keep(value, name) inside a trace does."

    def rows(self) -> Iterable[tuple[str, ...]]:
        """Name, size, model, age and time left of each."""
        return [(one.name, size(one.bytes), one.model, f"{span(one.age_s)} ago", span(one.left_s)) for one in self]


class _ByName:
    """A function that a trace takes along as its name, as it does the package; see the end of ``edif/__init__.py``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return pydoc.locate, (f"{__name__}.{self._function.__name__}",)


def _by_name(function: F) -> F:
    return cast(F, _ByName(function))


@_by_name
def keep(value: Any, name: str) -> None:
    """Inside a trace: keep ``value`` beside the model, for later traces of yours, on whichever model.

    It takes the place of what you had kept under that name, at once, also when the job fails later.  A tensor is kept
    as it is now; of a view, its part alone.

    Args:
        value: a tensor, or anything else that can be pickled.
        name: up to 64 letters, digits, dots, hyphens and underscores.

    Raises:
        NotKept: outside of a trace, a bad name, or no room; the sentence says what to do.
    """
    place = _shelf()
    if place is None:
        raise NotKept(
            "edif.keep works inside a trace, where the values are. To take a value of yours along, just use it in the"
            " block: it is sent with it."
        )
    import torch  # noqa: PLC0415 (loaded by now: the trace needs it)

    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.untyped_storage().nbytes() > value.nbytes:
            value = value.clone()  # a slice is saved with all of what it is a slice of
    try:
        place.put(shelf.checked(name), lambda file: torch.save(value, file))
    except shelf.ShelfRefused as refusal:
        raise NotKept(str(refusal)) from None


@overload
def kept() -> KeptValues: ...
@overload
def kept(name: str) -> Any: ...
@_by_name
def kept(name: str | None = None) -> Any:
    """Inside a trace: the value that you keep as ``name``.  Outside: fetched from the server; without a name, the list.

    Raises:
        NotKept: nothing has that name; the sentence lists what there is.
        BackendUnreachable: nobody answers at ``NDIF_HOST``.
    """
    place = _shelf()
    if name is None:
        if place is not None:
            raise NotKept("Inside a trace, edif.kept needs the name of a value; call edif.kept() outside to see them.")
        return KeptValues(KeptValue(**record) for record in ask("/kept")["kept"])
    if place is None:
        return _fetched(name)
    import torch  # noqa: PLC0415

    try:
        with place.get(shelf.checked(name)) as file:
            return torch.load(file, map_location="cpu", weights_only=False)  # the user's own, in the user's own process
    except shelf.ShelfRefused as refusal:
        raise NotKept(str(refusal)) from None


@_by_name
def forget(name: str) -> None:
    """Keep a value no longer, on the server; outside of traces.

    Raises:
        BackendRefused: nothing has that name.
        BackendUnreachable: nobody answers at ``NDIF_HOST``.
    """
    if _shelf() is not None:
        raise NotKept("Inside a trace nothing can be forgotten; call edif.forget outside.")
    ask(f"/kept/{quote(name, safe='')}", "DELETE")


def _fetched(name: str) -> Any:
    """The value that is kept on the server, brought here."""
    from edif import results  # noqa: PLC0415 (brings torch)

    try:
        shelf.checked(name)
    except shelf.ShelfRefused as refusal:
        raise NotKept(str(refusal)) from None
    link: Callable[[], str] = lambda: str(ask(f"/kept/{quote(name, safe='')}")["data"])  # noqa: E731
    return results.fetch(link(), renew=link, show=True)


def _shelf() -> shelf.Shelf | None:
    """The shelf for code that runs here now: the server's in a job, this process's own in a local trace, or none."""
    found = shelf.installed()
    if found is not None:
        return found
    tracing = sys.modules.get("nnsight.tracing.tracer")
    return _HERE if tracing is not None and getattr(tracing._local, "depth", 0) > 0 else None


class _LocalShelf:
    """Values of local traces: their bytes, so that a kept tensor is what it was, whatever is done to it later."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def put(self, name: str, write: Callable[[IO[bytes]], None]) -> None:
        """See :meth:`edif_protocol.shelf.Shelf.put`."""
        file = io.BytesIO()
        write(file)
        self._values[name] = file.getvalue()

    def get(self, name: str) -> IO[bytes]:
        """See :meth:`edif_protocol.shelf.Shelf.get`."""
        if name not in self._values:
            raise shelf.unknown(name, list(self._values))
        return io.BytesIO(self._values[name])

    def let_go(self, name: str) -> None:
        """Keep a value no longer; one that is not there is fine."""
        self._values.pop(name, None)


_HERE = _LocalShelf()


def forget_here(name: str) -> None:
    """What :func:`forget` is for values of local traces; nothing may be kept under that name."""
    _HERE.let_go(name)
