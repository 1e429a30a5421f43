"""One line in the notebook about a job while it runs: state, place, progress, time left, what it prints, and Cancel.

The line is an output of our own MIME type that is updated in place (``update_display_data``): no widget manager, and
what a notebook keeps of it is as still as any other output.  Cancel comes back over a comm; while a cell computes the
kernel may not hear that, and JupyterLab's side then interrupts it, which ends the job as well.  Called by
:mod:`edif.beside` and :mod:`edif.remote`; runs in the kernel's process.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
import weakref
from collections.abc import Callable
from html import escape
from typing import Any

from nnsight.schema.response import ResponseModel, Status

from edif.outputs import VERSION, OutputTooLarge
from edif.prediction import RESULT_TYPE

#: The comm's name, known to extensions/src/hosts/notebook.ts.
COMM = "edif.job"
#: How often an output is updated at most; and how much of the time drawing what is known may take.
_EVERY_S, _DRAWING_SHARE = 0.25, 0.2
_LOG_LINES = 200
_FRAME = re.compile(r'\s*File "(.*)", line (\d+)')
_WAITING = (Status.QUEUED, Status.DISPATCHED, Status.PROVISIONING, Status.DEPLOYING)
_ENDED = ("COMPLETED", "ERROR", "CANCELLED")
_running: weakref.WeakValueDictionary[str, JobView] = weakref.WeakValueDictionary()


def in_notebook() -> bool:
    """Whether outputs of this process are drawn in a notebook, and can be updated."""
    try:
        from IPython import get_ipython  # noqa: PLC0415 (a laptop's script has none, and must not wait for it)
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


class JobView:
    """A job's line; nothing is shown before :meth:`state` or :meth:`advance` is called.

    Args:
        what: what the job does, in a word or two.
        cancel: ends it, from another thread.
        draw: the JSON of what is known so far, for tiles as they come; None while that is nothing.
    """

    def __init__(
        self, what: str, cancel: Callable[[], None], draw: Callable[[], dict[str, Any] | None] | None = None
    ) -> None:
        self._what, self._cancel, self._draw = what, cancel, draw
        self.handle = secrets.token_hex(8)
        self.cancelled = False
        self._state, self._description = "RECEIVED", ""
        self._done, self._total = 0, 0
        self._began: float | None = None  #: when the first cells were done, and how many
        self._done_then = 0
        self._sent_at = time.monotonic()
        self._log: list[str] = []
        self._error: dict[str, str] | None = None
        self._drawn: dict[str, Any] | None = None
        self._shown_at, self._drawn_at, self._drawing_s = 0.0, 0.0, 0.0
        self._display: Any = None
        _running[self.handle] = self

    # -- what happens ---------------------------------------------------------

    def state(self, state: str, description: str = "") -> None:
        """Its state has changed, or why it waits."""
        changed, self._state, self._description = state != self._state, state, description
        self._show(force=changed)

    def advance(self, done: int, total: int) -> None:
        """So many cells are done."""
        if self._began is None:
            self._began, self._done_then = time.monotonic(), done
        self._state, self._description, self._done, self._total = "RUNNING", "", done, total
        self._show()

    def log(self, text: str) -> None:
        """It has printed something."""
        self._log = [*self._log, *text.rstrip("\n").split("\n")][-_LOG_LINES:]
        self._show(force=len(self._log) == 1)

    def refresh(self) -> None:
        """Time has passed."""
        self._show()

    def end(self, state: str = "COMPLETED", description: str = "", *, folded: bool = False) -> None:
        """It has ended; ``folded`` where the result says all there is to say, so that nothing of the line is left."""
        self._state, self._description = state, description
        self._drawn = None if folded else self._drawn
        if state == "ERROR":
            self._error = error_of(description)
        self._show(force=True, folded=folded and not self._log)

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._state not in _ENDED

    def cancel(self) -> None:
        """The reader does not want it any more."""
        self.cancelled = True
        self._cancel()

    # -- showing it -----------------------------------------------------------

    def as_json(self, *, folded: bool = False) -> dict[str, Any]:
        """The line as ``application/vnd.edif.result.v1+json`` holds it."""
        return {
            "version": VERSION,
            "kind": "job",
            "title": self._what,
            "handle": self.handle,
            "state": self._state,
            "description": "" if self._error else self._description,
            "done": self._done,
            "total": self._total,
            "left_s": self._left_s(),
            "seconds": round(time.monotonic() - self._sent_at, 1),
            "log": self._log,
            "error": self._error,
            "folded": folded,
            "result": self._drawn,
        }

    def _left_s(self) -> float | None:
        if self._began is None or not self._done_then < self._done < self._total:
            return None
        return round((time.monotonic() - self._began) / (self._done - self._done_then) * (self._total - self._done), 1)

    def _show(self, *, force: bool = False, folded: bool = False) -> None:
        from IPython.display import display  # noqa: PLC0415 (only where there is a notebook)

        now = time.monotonic()
        if not force and now - self._shown_at < _EVERY_S:
            return
        self._draw_known(now)
        line = self.as_json(folded=folded)
        words = _words(line)
        html = "" if folded else f"<small>{escape(words)}</small>"
        bundle = {RESULT_TYPE: line, "text/plain": "" if folded else words, "text/html": html}
        if self._display is None:
            _hear()
            self._display = display(bundle, raw=True, display_id=self.handle)  # type: ignore[no-untyped-call]
        else:
            self._display.update(bundle, raw=True)
        self._shown_at = time.monotonic()

    def _draw_known(self, now: float) -> None:
        if self._draw is None or self._state != "RUNNING" or not self._done:
            return
        if now - self._drawn_at < self._drawing_s / _DRAWING_SHARE:
            return
        with contextlib.suppress(OutputTooLarge):  # then there are no tiles; the job goes on
            self._drawn = self._draw()
        self._drawn_at = time.monotonic()
        self._drawing_s = self._drawn_at - now


class TraceLine:
    """What nnsight's own status display is for a trace, as a :class:`JobView`."""

    def __init__(self, what: str, cancel: Callable[[], None]) -> None:
        self.enabled = True
        self._what, self._cancel = what, cancel
        self._view: JobView | None = None

    def update(self, response: ResponseModel) -> None:
        """A status or a printed line has come."""
        if not self.enabled:
            return
        view = self._view = self._view or JobView(self._what, self._cancel)
        if response.status is Status.LOG:
            view.log(response.description)
        elif response.status in (Status.COMPLETED, Status.ERROR):
            stopped = response.status is Status.ERROR and view.cancelled
            view.end("CANCELLED" if stopped else response.status.value, response.description)
            self._view = None
        else:
            view.state(response.status.value, response.description if response.status in _WAITING else "")

    def refresh(self) -> None:
        """Time has passed."""
        if self.enabled and self._view:
            self._view.refresh()


def error_of(traceback: str) -> dict[str, str]:
    """The user's line and the cause, out of a traceback; the cause alone out of a sentence."""
    lines = [line for line in traceback.rstrip().split("\n") if line.strip()]
    frames = [at for at, line in enumerate(lines[:-1]) if _FRAME.match(line) and not _FRAME.match(lines[at + 1])]
    line = lines[frames[-1] + 1].strip() if frames else ""
    return {"line": line, "cause": lines[-1].strip() if lines else "It ended without a word."}


def _words(line: dict[str, Any]) -> str:
    """The line for readers without the eDIF front end."""
    counts = f"{line['done']} of {line['total']}" if line["total"] else ""
    said = line["error"]["cause"] if line["error"] else line["description"]
    state = line["state"].capitalize() + (f" after {line['seconds']} s" if line["state"] == "COMPLETED" else "")
    return " · ".join(part for part in (state, line["title"], counts, said) if part)


def _hear() -> None:
    """Listen for Cancel."""
    import comm  # noqa: PLC0415 (only where there is a notebook)

    comm.get_comm_manager().register_target(COMM, _heard)


def _heard(opened: Any, message: dict[str, Any]) -> None:
    """A front end asks for something: ``{"cancel": handle}``."""
    view = _running.get(str(message["content"]["data"].get("cancel", "")))
    with contextlib.suppress(Exception):  # the front end may be gone; nobody waits for this answer
        opened.send({"known": view is not None})
        opened.close()
    if view is not None and view.lives:
        view.cancel()
