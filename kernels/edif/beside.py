"""Runs a method's work beside the weights, as one job, and shows how far it is.

The methods call :func:`run` with a function of ``edif.engine``; remotely it travels with the job (and the package
``edif.engine`` with it), on a model that is loaded here it runs here.  What it tells on the way are lines that
``edif.engine.sweeps.TellByLine`` prints: they move the bar and fill the partial result instead of being shown.  In a
notebook the bar is a :class:`edif.job_view.JobView`.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import signal
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

import nnsight
import numpy as np
import torch
from nnsight.schema.response import ResponseModel, Status
from numpy.typing import NDArray
from tqdm.auto import tqdm

from edif import job_view, submitted
from edif.engine.sweeps import Base, Tell, TellByLine
from edif.errors import EdifError, JobFailed
from edif.remote import EdifBackend, keep_connections

if TYPE_CHECKING:
    from edif.result import Result

#: A printed line with this key tells of cells instead of being shown.
_TOLD = "edif.sweep"
_WAITING = (Status.QUEUED, Status.DISPATCHED, Status.PROVISIONING, Status.DEPLOYING)


class Stopped(EdifError):
    """Interrupted or cancelled; :attr:`told` holds what had been computed by then, :attr:`why` who has ended it."""

    def __init__(self, told: Telling, why: str = "") -> None:
        self.told, self.why = told, why
        super().__init__(f"Stopped after {int(told.known.sum())} of {len(told.known)} cells.")


def run(
    model: Any,
    work: Callable[[Any, Tell], dict[str, Any]],
    cells: int,
    *,
    remote: bool | str | None,
    progress: bool,
    what: str = "job",
    draw: Draw | None = None,
) -> dict[str, Any]:
    """What ``work(model, tell)`` returns, run where the weights are.

    Args:
        work: a function of ``edif.engine``, or a ``functools.partial`` of one; tensors in what it returns stay tensors.
        cells: how many cells it will tell of.
        remote: as in ``model.trace``; None: on the backend unless the weights are loaded here.
        progress: show a bar with the time that is left.
        what: the job in a word or two, for the bar.
        draw: the JSON of what is known so far, to be drawn while the job runs.

    Raises:
        Stopped: interrupted, or cancelled.
    """
    there = not model.dispatched if remote is None else remote
    with Telling(cells, progress, what, draw) as told:
        if not there:
            with torch.no_grad():
                with model.session(remote=False):
                    found = nnsight.save(work(model, told.cells_done))
                return cast(dict[str, Any], found)
        nnsight.register("edif.engine")
        backend = keep_connections(model, lambda: model._remote_backend(there, True, None, False))
        if isinstance(backend, EdifBackend):
            backend.listener = told.status
            backend.display.enabled = not progress
            told.cancel, told.cancelled = backend.cancel, functools.partial(_cancelled, backend)
        with model.session(backend=backend):
            found = nnsight.save(work(model, TellByLine()))
        return cast(dict[str, Any], found)


R = TypeVar("R", bound="Result")


class MethodStopped(EdifError):
    """A method was interrupted; :attr:`partial` is its result as far as it was known, marked as partial, or None."""

    def __init__(self, stopped: Stopped, partial: Result | None, before: int = 0, after: int = 0) -> None:
        """Mark ``partial`` as such; so many steps were done in jobs ``before``, or are left to those ``after`` it."""
        self.partial: Any = partial
        known, why = stopped.told.known, f" {stopped.why}" if stopped.why else ""
        done, of = before + int(known.sum()), before + len(known) + after
        if partial is not None:
            partial.provenance["stopped"] = {"done": done, "of": of}
        kept = (
            "Nothing of it can be used"
            if partial is None
            else "What it has is kept: `except edif.MethodStopped as stopped:` and `stopped.partial`, or `import sys; "
            "sys.last_value.partial`"
        )
        super().__init__(f"Stopped after {done} of {of} steps.{why} {kept}.")


def result(
    model: Any,
    work: Callable[[Any, Tell], dict[str, Any]],
    cells: int,
    make: Callable[[dict[str, Any]], R],
    known: Callable[[Telling], dict[str, Any] | None] = lambda told: None,
    *,
    remote: bool | str | None,
    progress: bool,
    what: str,
) -> R:
    """What ``make`` makes of what :func:`run` returns; it is drawn while the job runs.

    Args:
        known: what would have been returned, as far as it was told of by now; None where that is nothing.

    Raises:
        MethodStopped: interrupted; with what ``make`` makes of what is known, marked as partial.
    """

    def draw(told: Telling) -> dict[str, Any] | None:
        some = known(told)
        with contextlib.suppress(NotImplementedError):  # a kind without a view
            return None if some is None else make(some).as_json()
        return None

    try:
        found = run(model, work, cells, remote=remote, progress=progress, what=what, draw=draw)
    except Stopped as stopped:
        some = known(stopped.told)
        raise MethodStopped(stopped, None if some is None else make(some)) from None
    return make(found)


def _cancelled(backend: EdifBackend) -> str:
    """What is said of the job that was sent if somebody has cancelled it, from wherever; else nothing."""
    id = backend.sent or backend.job_id
    try:
        job = submitted.job(id) if id else None
    except EdifError:
        job = None
    return job.description if job is not None and job.state == "CANCELLED" else ""


#: Makes the JSON of what is known of a job, or None while that is nothing.
Draw = Callable[["Telling"], dict[str, Any] | None]


class Bar(Protocol):
    """Shows how far a job is."""

    cancelled: bool  #: whether the reader has ended the job

    def state(self, state: str, description: str = "") -> None:
        """The job's state, or why it waits."""

    def advance(self, done: int, total: int) -> None:
        """So many cells are done."""

    def log(self, text: str) -> None:
        """The job has printed something."""

    def end(self, state: str = "COMPLETED", description: str = "", *, folded: bool = False) -> None:
        """The job has ended."""


class Telling:
    """What has been told so far: a bar, and the values that are known."""

    def __init__(self, cells: int, progress: bool, what: str = "job", draw: Draw | None = None) -> None:
        self.rows: dict[int, NDArray[Any]] = {}  #: by cell, its values, where they have been told
        self.known = np.zeros(cells, dtype=bool)
        self.bases: Base = {}  #: of each pair, fact or prompt by number: what is known beside cells
        self._pieces: list[str] = []  #: of a message that has come in part
        self.batches = 0
        #: Ends the job; one that runs here is interrupted.
        self.cancel: Callable[[], None] = _interrupt
        #: Why the job was cancelled; empty where it was not.
        self.cancelled: Callable[[], str] = str
        self._bar: Bar
        if progress and job_view.in_notebook():
            drawn = None if draw is None else lambda: draw(self)
            self._bar = job_view.JobView(what, self.stop, drawn)
        else:
            self._bar = TextBar(cells, progress)

    def stop(self) -> None:
        """End the job: the reader has asked for it."""
        self.cancel()

    def values(self, first: int, count: int, like: tuple[int, ...] = (0,)) -> NDArray[Any]:
        """Values of so many cells from the ``first`` on, (cells, …); not-a-number where nothing is known.

        Args:
            like: shape of a cell's values, where none of these is known.
        """
        held = [self.rows.get(place) for place in range(first, first + count)]
        shape = next((row.shape for row in held if row is not None), like)
        return np.stack([np.full(shape, np.nan) if row is None else row for row in held]) if held else np.empty((0,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        why = self._why() if isinstance(error, JobFailed) else ""
        if error is None:
            self._bar.advance(len(self.known), len(self.known))
            self._bar.end(folded=True)
        elif isinstance(error, KeyboardInterrupt) or why:
            stopped = Stopped(self, why)
            self._bar.end("CANCELLED", str(stopped))
            raise stopped from None
        else:
            self._bar.end("ERROR", str(error))

    def _why(self) -> str:
        """Who has cancelled the job that has failed, if somebody has."""
        return self.cancelled() or ("Cancelled by you." if self._bar.cancelled else "")

    def cells_done(self, places: Sequence[int], values: torch.Tensor, base: Base | None = None) -> None:
        """Cells have been measured, in this process."""
        self._learn(base or {})
        if len(places):
            self._take(places, values.detach().cpu().numpy())

    def status(self, response: ResponseModel) -> bool:
        """A status or a printed line has come; True for a line that told of cells."""
        text = response.description
        if response.status in _WAITING:
            self._bar.state(response.status.value, text)
        elif response.status == Status.RUNNING:
            self._bar.state("RUNNING")
        if response.status != Status.LOG:
            return False
        if _TOLD not in text[: len(_TOLD) + 4]:
            self._bar.log(text)
            return False
        try:
            number, count, piece = json.loads(text)[_TOLD]
            self._pieces = [*(self._pieces if number > 1 else []), piece]
            if number == count:
                self._told(json.loads("".join(self._pieces)))
        except (ValueError, KeyError, TypeError, IndexError):
            return False
        return True

    def _told(self, message: dict[str, Any]) -> None:
        for number, known in message.get("base", {}).items():
            self._learn({int(number): {name: torch.from_numpy(_unpacked(one)) for name, one in known.items()}})
        if "places" in message:
            self._take(message["places"], _unpacked(message["values"]))

    def _learn(self, base: Base) -> None:
        for number, known in base.items():
            self.bases[number] = {**self.bases.get(number, {}), **known}

    def _take(self, places: Sequence[int], values: NDArray[Any]) -> None:
        chosen = list(places)
        if values.size:
            self.rows |= dict(zip(chosen, values, strict=True))
        self.known[chosen] = True
        self.batches += 1
        self._bar.advance(int(self.known.sum()), len(self.known))


def _unpacked(packed: dict[str, Any]) -> NDArray[Any]:
    values = np.frombuffer(base64.b64decode(packed["values"]), dtype=packed["dtype"])
    return values.reshape(packed["shape"]).copy()


def _interrupt() -> None:
    """Interrupt the cell that runs here, as the kernel's own button does; called from another thread."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)


class TextBar:
    """A bar of tqdm's, for terminals."""

    cancelled = False

    def __init__(self, cells: int, shown: bool) -> None:
        self._bar = tqdm(total=cells, unit="cell", disable=not shown)

    def state(self, state: str, description: str = "") -> None:
        """Why the job waits stands behind the bar."""
        self._bar.set_postfix_str(description)

    def advance(self, done: int, total: int) -> None:
        """So many cells are done."""
        self._bar.update(done - self._bar.n)

    def log(self, text: str) -> None:
        """What is printed is shown by the client's own display."""

    def end(self, state: str = "COMPLETED", description: str = "", *, folded: bool = False) -> None:
        """The job has ended."""
        self._bar.close()
