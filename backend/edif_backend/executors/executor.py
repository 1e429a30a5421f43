"""The executor: one fork of the zygote, one user, one job at a time.

It rebuilds the traced block that the client sent (which already runs the user's code: a payload is a pickle), runs it
with nnsight, unmodified, and sends back what was saved.  Everything it says travels as frames over its one socket.
"""

from __future__ import annotations

import functools
import io
import os
import random
import re
import select
import socket
import sys
import time
import traceback
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TextIO, cast

import nnsight
import numpy as np
import torch
from cloudpickle.cloudpickle import _DYNAMIC_CLASS_TRACKER_BY_CLASS  # type: ignore[import-untyped]
from nnsight.schema.request import RequestModel
from nnsight.tracing.tracer import _saves, dec, inc

from edif_backend.executors import frames, packing, pages
from edif_backend.executors.allowance import Allowance, JobTooLarge
from edif_backend.executors.attached import writes_on_copies
from edif_backend.executors.frames import Kind
from edif_backend.executors.jail_shelf import JailShelf
from edif_backend.executors.mixing import on_host, operands_moved
from edif_backend.executors.pristine import Pristine
from edif_backend.executors.weights_layout import Layout
from edif_protocol import shelf
from edif_protocol.wire import envoy_name

#: Largest payload taken (the gateway's own limit is lower).
_PAYLOAD_BYTES = 1 << 34
_LINE_CHARACTERS = 16_384
#: A user who sends nothing for so long has time for what makes the executor small.
_REST_S = 1.0
_CHANGED_CHARACTERS = 500
_EDIF = find_spec("edif")
_OURS = (
    os.path.dirname(os.path.abspath(__file__)),
    os.path.dirname(nnsight.__file__),
    *((_EDIF.submodule_search_locations or ()) if _EDIF else ()),
)
_INSTALLED = tuple({os.path.dirname(os.__file__), *(path for path in sys.path if "-packages" in path)})
#: How the frame of a function that was sent along is named: ``[function:line] path on the client``.
_SENT = re.compile(r"^\[[^\]]*\] ")
_CLIENTS_PACKAGES = re.compile(r"[/\\](site|dist)-packages[/\\]")
_CAUSE = "The above exception was the direct cause of the following exception:"


def serve(
    sock: socket.socket,
    model: nnsight.TransformersModel,
    threads: int,
    allowance: Allowance,
    layout: Layout | None = None,
) -> bool:
    """Take one job, run it, answer; returns whether it went well and there may be another.

    Args:
        layout: of weights that lie on devices.
    """
    try:
        kind, body = frames.receive(sock, frames.WORDS_BYTES)
        assert kind is Kind.JOB
        job = frames.read_words(body)
        kind, payload = frames.receive(sock, _PAYLOAD_BYTES)
        assert kind is Kind.PAYLOAD
    except EOFError:
        return False
    if threads > 1:
        torch.set_num_threads(threads)
    sys.stdout = sys.stderr = cast(TextIO, _Lines(sock))
    sock.sendall(frames.pack(Kind.STARTED))
    started = time.perf_counter()
    try:
        with shelf.using(JailShelf(sock)):
            saved = run(model, payload, bool(job["compress"]), job["env"], allowance, layout)
        ran = time.perf_counter()
        send = functools.partial(frames.send, sock, Kind.RESULT)
        result_bytes = packing.pack(saved, bool(job["compress"]), send)
    except BaseException as error:  # noqa: BLE001 - the top of the job: whatever user code raises is its answer
        sys.stdout.flush()
        sock.sendall(frames.words(Kind.FAILED, description=describe(error)))
        return False
    sys.stdout.flush()
    done = time.perf_counter()
    seconds = {"run": round(ran - started, 6), "pack": round(done - ran, 6)}
    sock.sendall(frames.words(Kind.DONE, result_bytes=result_bytes, seconds=seconds))
    return True


def serve_while_pristine(
    sock: socket.socket,
    model: nnsight.TransformersModel,
    threads: int,
    pristine: Pristine,
    allowance: Allowance,
    layout: Layout | None = None,
) -> None:
    """Take jobs of one user for as long as each leaves this process as it found it."""
    while serve(sock, model, threads, allowance, layout):
        changed = pristine.changed()
        sock.sendall(frames.words(Kind.KEPT, changed=changed[:_CHANGED_CHARACTERS]))
        if changed:
            return
        if not select.select([sock], [], [], _REST_S)[0]:
            pages.give_back_free()  # the next job pays for it, so not between two that come in a row


def serve_refusal(sock: socket.socket, why: str) -> None:
    """Say that this executor could not be made ready; its job goes to another one."""
    sock.sendall(frames.words(Kind.UNFIT, description=why[:_CHANGED_CHARACTERS]))
    while sock.recv(1 << 16):  # until the replica has read it and hung up
        pass


class Unreadable(Exception):
    """The payload could not be rebuilt here."""


def run(
    model: nnsight.TransformersModel,
    payload: bytes,
    compress: bool,
    env: dict[str, Any],
    allowance: Allowance,
    layout: Layout | None = None,
) -> dict[str, Any]:
    """Run the traced block in ``payload`` on ``model``; returns the saved values by name.

    Raises:
        Unreadable: the payload cannot be rebuilt (a module that is missing here, a model of another shape).
        JobTooLarge: it would need more memory than it may take.
        BaseException: whatever the block raises.
    """
    _set_environment(model, env, allowance.adapters)
    objects = model._remoteable_persistent_objects() if "peft" in env else _persistent_objects(model)
    try:
        tracer = RequestModel.deserialize(payload, objects, compress=compress)
    except Exception as error:
        raise Unreadable(_unreadable(error)) from error
    _name_classes()
    _draw_seeds()
    # As nnsight's own Tracer.__exit__ does: saves are recorded between inc and dec, by identity.
    inc()
    try:
        with (
            allowance.watched(model, _generated(tracer)),
            operands_moved(model._module, print),
            writes_on_copies(layout),
        ):
            tracer.execute(tracer.info.code)
        saves = _saves()
        saved = {name: value for name, value in tracer.info.frame.f_locals.items() if id(value) in saves}
        return on_host(model._module, saved)
    finally:
        dec()


@functools.cache
def _persistent_objects(model: nnsight.TransformersModel) -> dict[str, Any]:
    """What a payload may refer to by name: found once, by the first rehearsal, since every job finds the same model.

    The envoys get the payload's own model as their parent and have ours again after the job: rehearsed, so put back.
    """
    objects: dict[str, Any] = model._remoteable_persistent_objects()
    return {**objects, **{envoy_name(child.path): child for child in model._children}}


def _set_environment(model: nnsight.TransformersModel, env: dict[str, Any], adapters: dict[str, str]) -> None:
    """Apply what the request asks for beyond the model: an adapter, by its name, and the attention implementation.

    Comes before the payload is rebuilt, which may refer to modules of the adapter.
    """
    name = env.get("peft")
    if name is None:
        model._remoteable_set_env(env)
        return
    if name not in adapters:
        raise Unreadable(f"The adapter {name!r} is not served with this model.")
    model._remoteable_set_env({**env, "peft": adapters[name]})
    model.peft = name


def _generated(tracer: Any) -> int:
    """Tokens that ``model.generate`` was asked for; 0 for a trace."""
    asked = getattr(tracer, "kwargs", {}).get("max_new_tokens", 0)
    return asked if isinstance(asked, int) else 0


def _name_classes() -> None:
    """Let the classes that were sent along be found under their own names, so that instances of them can be saved.

    Results are pickled by reference; the client has these classes, but the fork lacks the module they come from.
    """
    for kind in list(_DYNAMIC_CLASS_TRACKER_BY_CLASS):
        if isinstance(kind, type) and "." not in kind.__qualname__:  # type variables are tracked as well
            home = sys.modules.setdefault(kind.__module__, ModuleType(kind.__module__))
            setattr(home, kind.__name__, kind)


def _draw_seeds() -> None:
    """Start every job at a random state of its own, not its zygote's nor that of the job before.

    Not by ``torch.seed()``, which keeps a stack trace for each kind of device that is not there.
    """
    seed = torch.default_generator.seed()
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed()
    random.seed()


def describe(error: BaseException) -> str:
    """What the user is shown: their own lines, the cause, and the mend where it is known."""
    if isinstance(error, Unreadable | JobTooLarge):
        return str(error)
    if isinstance(error, SystemExit):
        return f"Your code ended the job: SystemExit({error.code!r}).\n{_user_traceback(error)}"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"The job needed more memory than one job may take; save or batch less.\n{_user_traceback(error)}"
    if isinstance(error, torch.OutOfMemoryError):
        return f"The job needed more GPU memory than one job may take; batch or save less.\n{_user_traceback(error)}"
    if "CUDA error" in str(error):
        return (
            "The GPU refused an operation and the job was stopped there. Most often an index is out of range, or a "
            f"kernel of your own wrote to the model's weights, which are read only.\n{_user_traceback(error)}"
        )
    return _user_traceback(error)


def _user_traceback(error: BaseException) -> str:
    """The traceback without our frames, nnsight's and installed packages', as long as a frame of the user's is left."""
    above, error.__cause__ = error.__cause__, None  # taken off: causes may go round in a circle
    cause = f"{_user_traceback(above)}\n\n{_CAUSE}\n\n" if above else ""
    entries = [entry for entry in traceback.extract_tb(error.__traceback__) if not entry.filename.startswith(_OURS)]
    for entry in entries:
        entry.filename = _SENT.sub("", entry.filename)
    own = [entry for entry in entries if not _installed(entry.filename)]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(own or entries)]
    return cause + "".join([*lines, *traceback.format_exception_only(error)]).rstrip()


def _installed(filename: str) -> bool:
    return filename.startswith((*_INSTALLED, "<frozen")) or _CLIENTS_PACKAGES.search(filename) is not None


def _unreadable(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        return (
            f"The server does not have a module that your trace uses ({said}). If it is your own, send it along: "
            f"nnsight.register({error.name!r}) before the trace."
        )
    return (
        f"The server could not rebuild your trace ({said}). Check that client and server run the same versions "
        "(nnsight.compare()), and that what the block uses can be pickled."
    )


class _Lines(io.TextIOBase):
    """Standard output and error of a job: each whole line becomes one LOG frame."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._send(line)
        return len(text)

    def flush(self) -> None:
        if self._rest:
            self._send(self._rest)
            self._rest = ""

    def _send(self, line: str) -> None:
        self._sock.sendall(frames.pack(Kind.LOG, line[:_LINE_CHARACTERS].encode(errors="replace")))
