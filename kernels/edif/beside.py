"""Runs a method's work beside the weights, as one job, and shows how far it is.

The methods call :func:`run` with a function of ``edif.engine``; remotely it travels with the job (and the package
``edif.engine`` with it), on a model that is loaded here it runs here.  What it tells on the way are lines that
``edif.engine.sweeps.tell_by_line`` prints: they move the bar and fill the partial result instead of being shown.  In a
notebook the bar is a :class:`edif.job_view.JobView`.
"""

from __future__ import annotations

import base64
import json
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, cast

import nnsight
import numpy as np
import torch
from nnsight.schema.response import ResponseModel, Status
from numpy.typing import NDArray
from tqdm.auto import tqdm

from edif import job_view
from edif.engine.sweeps import Tell, tell_by_line
from edif.errors import EdifError, JobFailed
from edif.remote import EdifBackend, keep_connections

#: A printed line with this key tells of cells instead of being shown.
_TOLD = "edif.sweep"
_WAITING = (Status.QUEUED, Status.DISPATCHED, Status.PROVISIONING, Status.DEPLOYING)


class Stopped(EdifError):
    """Interrupted or cancelled; :attr:`rows` (by cell) and :attr:`known` hold what had been computed by then."""

    def __init__(self, told: Telling) -> None:
        self.rows, self.known, self.batches = told.rows, told.known, told.batches
        self.values = told.values
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
        backend = keep_connections(lambda: model._remote_backend(there, True, None, False))
        if isinstance(backend, EdifBackend):
            backend.listener = told.status
            backend.display.enabled = not progress
            told.cancel = backend.cancel
        with model.session(backend=backend):
            found = nnsight.save(work(model, tell_by_line))
        return cast(dict[str, Any], found)


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
        self.bases: dict[int, dict[str, Any]] = {}  #: of each pair or fact by number: what cells are compared with
        self.batches = 0
        #: Ends the job; one that runs here is interrupted.
        self.cancel: Callable[[], None] = _interrupt
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
        if error is None:
            self._bar.advance(len(self.known), len(self.known))
            self._bar.end(folded=True)
        elif isinstance(error, KeyboardInterrupt) or (self._bar.cancelled and isinstance(error, JobFailed)):
            stopped = Stopped(self)
            self._bar.end("CANCELLED", str(stopped))
            raise stopped from None
        else:
            self._bar.end("ERROR", str(error))

    def cells_done(
        self, places: Sequence[int], values: torch.Tensor, base: dict[int, dict[str, Any]] | None = None
    ) -> None:
        """Cells have been measured, in this process."""
        self.bases |= base or {}
        self._take(places, values.numpy())

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
            told = json.loads(text)[_TOLD]
            values = np.frombuffer(base64.b64decode(told["values"]), dtype=told["dtype"]).reshape(told["shape"])
            self.bases |= {int(number): base for number, base in told.get("base", {}).items()}
            self._take(told["places"], values)
        except (ValueError, KeyError, TypeError, IndexError):
            return False
        return True

    def _take(self, places: Sequence[int], values: NDArray[Any]) -> None:
        chosen = list(places)
        if values.size:
            self.rows |= dict(zip(chosen, values, strict=True))
        self.known[chosen] = True
        self.batches += 1
        self._bar.advance(int(self.known.sum()), len(self.known))


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
