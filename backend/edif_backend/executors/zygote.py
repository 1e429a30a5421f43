"""The zygote: holds one loaded model inside the jail and forks an executor whenever the replica asks for one.

Started by :mod:`~edif_backend.executors.pool` through bubblewrap (``python -m edif_backend.executors.zygote FD JSON``).
It runs no user code.  It stays single-threaded, for only such a process may fork and enter new namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edif_backend.errors import FabricError, ModelUnusable
from edif_backend.executors import capabilities, frames, pages, walls
from edif_backend.executors.allowance import Allowance
from edif_backend.executors.frames import Kind
from edif_backend.models.devices import Shares, for_torch
from edif_backend.models.peaks import Profile

if TYPE_CHECKING:
    from nnsight import TransformersModel

    from edif_backend.executors.pristine import Untouched

#: What an executor does behind its walls: with its socket, and its own pagemap and status of ``/proc``.
Execute = Callable[[socket.socket, BinaryIO, BinaryIO], None]

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class ZygoteConfig:
    """What a zygote needs to know, handed over as JSON on its command line."""

    entry: dict[str, Any]  #: the catalogue entry
    models_dir: str  #: where its snapshot is
    threads: int  #: torch threads of each executor
    memory_bytes: int  #: address space of an executor beyond what is mapped
    tmp_bytes: int  #: size of an executor's private /tmp
    shown: tuple[str, ...]  #: folders that the jail shows
    adapters: dict[str, str]  #: folders of the PEFT adapters of the model, by name
    profile: dict[str, Any] | None  #: what jobs of the model need, if it was measured before
    parts: Shares = ()  #: devices and the bytes that each has for the model; none: the host's memory

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


class Zygote:
    """The loop that forks executors and reports those that end."""

    def __init__(self, control: socket.socket, config: ZygoteConfig, execute: Execute) -> None:
        self._control = control
        self._config = config
        self._execute = execute

    def serve(self) -> None:
        """Answer the replica until it hangs up."""
        wake_out, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_in)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            readable, _, _ = select.select([self._control.fileno(), wake_out], [], [])
            if wake_out in readable:
                os.read(wake_out, 4096)
                self._report_ended()
            if self._control.fileno() in readable and not self._answer():
                return

    def _answer(self) -> bool:
        try:
            kind, body, descriptor = frames.receive_with_descriptor(self._control)
        except EOFError:
            return False
        if kind is Kind.FORK and descriptor is not None:
            pid = self._fork(descriptor)
            os.close(descriptor)
            self._control.sendall(frames.words(Kind.FORKED, pid=pid))
        elif kind is Kind.KILL:
            pid = int(frames.read_words(body)["pid"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return True

    def _fork(self, descriptor: int) -> int:
        """Fork an executor behind walls of its own; returns its pid as seen from here, 0 when it could not be made."""
        answer_out, answer_in = os.pipe()
        middle = os.fork()
        if middle == 0:
            self._leave(answer_in, descriptor)
        os.close(answer_in)
        with os.fdopen(answer_out, "rb") as file:
            answer = file.read(16)
        os.waitpid(middle, 0)
        return int(answer or b"0")

    def _leave(self, answer_in: int, descriptor: int) -> None:
        """In the fork between: leave the namespaces, fork the executor (first of its pid namespace), be gone."""
        status = 1
        try:
            walls.leave_namespaces()
            executor = os.fork()
            if executor == 0:
                self._become_executor(descriptor)
            os.write(answer_in, str(executor).encode())
            status = 0
        except OSError as error:
            print(f"an executor could not be closed in: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)

    def _become_executor(self, descriptor: int) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            walls.close_descriptors(keep=descriptor)
            # Its own two files of /proc, for the check after a job; they tell it nothing of anybody else.
            with open("/proc/self/pagemap", "rb", buffering=0) as pagemap, open("/proc/self/status", "rb") as told:
                walls.limit(self._config.memory_bytes)
                walls.cover(self._config.tmp_bytes, self._config.shown)
                walls.mute()
                walls.harden()
                with socket.socket(fileno=descriptor) as sock:
                    self._execute(sock, pagemap, told)
            status = 0
        finally:
            os._exit(status)

    def _report_ended(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._control.sendall(frames.words(Kind.EXITED, pid=pid, status=status))


def load(config: ZygoteConfig, say: Callable[[str], None]) -> TransformersModel:
    """Load the model, weights in huge pages where the kernel has them."""
    say("Starting Python with torch and nnsight.")
    import torch

    from edif_backend.models.catalogue import ModelEntry
    from edif_backend.models.loading import load as load_model
    from edif_backend.models.snapshots import find

    torch.set_num_threads(1)
    entry = ModelEntry.model_validate(config.entry)
    snapshot = find(entry, Path(config.models_dir))
    if snapshot is None:
        raise ModelUnusable(f"{entry.id}: its files are not there or not complete.")
    say(f"Loading the weights of {entry.id}.")
    model = load_model(snapshot, entry, for_torch(config.parts))
    if config.adapters:
        import peft  # noqa: F401 - so that no job has to
    pages.weights_to_huge_pages(model._module)
    return model


def needs_of(model: TransformersModel, config: ZygoteConfig, say: Callable[[str], None]) -> Profile | None:
    """What jobs of the model need, as it was measured at an earlier load or is now."""
    if config.profile:
        return Profile.model_validate(config.profile)
    say("Measuring how much memory its jobs need; this is done once.")
    from edif_backend.executors.measuring import measure

    return measure(model._module, int(getattr(model._module.config.get_text_config(), "max_position_embeddings", 2048)))


def rehearse(model: TransformersModel, allowance: Allowance) -> tuple[list[pages.Stretch], Untouched | None]:
    """Play a job through, so that every fork finds code and weights warm.

    Returns:
        The pages that a job writes to; and everything as it is before a job, None where changes would not be noticed.
    """
    from edif_backend.executors.pristine import CannotTell, Untouched
    from edif_backend.executors.rehearsal import Rehearsal

    if importlib.util.find_spec("edif"):
        importlib.import_module("edif")  # what a block may use (edif.keep) takes a quarter of a second to import
    rehearsal = Rehearsal(model, allowance)
    for _ in range(2):
        rehearsal.play()
    gc.collect()
    try:
        untouched = Untouched.now(model._module, rehearsal.play)
    except CannotTell as error:
        print(f"every executor takes one job: {error}", file=sys.stderr, flush=True)
        untouched = None
    gc.freeze()  # what is loaded is never garbage: collections in a fork must not touch its pages
    pages.collapse_heap()
    return pages.touched_by(rehearsal.play), untouched


def main() -> None:
    """Load, say that it is ready, fork on demand."""
    started_at = time.monotonic()
    capabilities.give_up_root()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    config = ZygoteConfig(**json.loads(sys.argv[2]))
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def say(text: str) -> None:
        control.sendall(frames.pack(Kind.LOADING, text.encode()))

    try:
        model = load(config, say)
    except FabricError as error:
        sys.exit(str(error))  # its sentence is the last line, and the operator needs no traceback
    profile = needs_of(model, config, say)
    context_tokens = int(config.entry.get("context_tokens") or 0)
    allowance = Allowance(profile, config.memory_bytes, config.adapters, context_tokens)
    say("Rehearsing a job.")
    touched, untouched = rehearse(model, allowance)
    from edif_backend.executors.executor import serve, serve_while_pristine
    from edif_backend.executors.pristine import Pristine

    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"the zygote has {threads} threads and cannot fork safely")
    parameters = sum(parameter.numel() for parameter in model._module.parameters())
    seconds = round(time.monotonic() - started_at, 3)
    measured = profile.model_dump() if profile and not config.profile else None
    control.sendall(frames.words(Kind.READY, seconds=seconds, parameters=parameters, profile=measured))

    def execute(sock: socket.socket, pagemap: BinaryIO, status: BinaryIO) -> None:
        pages.make_own(touched)  # while it waits for its job
        if untouched:
            serve_while_pristine(sock, model, config.threads, Pristine(untouched, pagemap, status), allowance)
        else:
            serve(sock, model, config.threads, allowance)

    Zygote(control, config, execute).serve()


if __name__ == "__main__":
    main()
