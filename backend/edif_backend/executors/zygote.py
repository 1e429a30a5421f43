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
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edif_backend.errors import FabricError, ModelUnusable
from edif_backend.executors import capabilities, device_memory, frames, pages, walls
from edif_backend.executors.allowance import Allowance
from edif_backend.executors.frames import Kind
from edif_backend.executors.zygote_config import ZygoteConfig
from edif_backend.models.devices import for_torch
from edif_backend.models.peaks import Profile

if TYPE_CHECKING:
    from nnsight import TransformersModel

    from edif_backend.executors.on_devices import OnDevices
    from edif_backend.executors.own_pages import OwnPages
    from edif_backend.executors.pristine import Pristine, Untouched
    from edif_backend.executors.rehearsal import Rehearsal
    from edif_backend.executors.weights_keeper import Keeper

#: What an executor does behind its walls: with its socket, what tells its own pages, and its status of ``/proc``.
Execute = Callable[[socket.socket, "OwnPages", BinaryIO], None]

_PR_SET_CHILD_SUBREAPER = 36


class Zygote:
    """The loop that forks executors and reports those that end."""

    def __init__(
        self,
        control: socket.socket,
        config: ZygoteConfig,
        execute: Execute,
        tell_own: Callable[[BinaryIO], OwnPages],
        placed: OnDevices | None = None,
    ) -> None:
        self._control = control
        self._config = config
        self._execute = execute
        self._tell_own = tell_own
        self._placed = placed

    def serve(self) -> None:
        """Answer the replica until it hangs up."""
        wake_out, wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_in)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            keeper = self._placed.keeper if self._placed else None
            heard = [self._control.fileno(), wake_out, *([keeper.fileno()] if keeper else ())]
            readable, _, _ = select.select(heard, [], [])
            if keeper and keeper.fileno() in readable and not self._tell_checked(keeper):
                return
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
        elif self._placed and kind in (Kind.CHECK, Kind.PARK, Kind.WAKE):
            self._move(self._placed, kind)
        elif kind is Kind.KILL:
            pid = int(frames.read_words(body)["pid"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return True

    def _move(self, placed: OnDevices, kind: Kind) -> None:
        """Have the weights on the devices checked, let go of, or put there again."""
        if kind is Kind.CHECK and placed.keeper:
            placed.keeper.ask()
        elif kind is Kind.PARK:
            placed.leave()
        elif kind is Kind.WAKE:
            refused = ""
            try:
                placed.take()
            except ModelUnusable as error:
                refused = str(error)
            self._control.sendall(frames.words(Kind.AWAKE, refused=refused))

    def _tell_checked(self, keeper: Keeper) -> bool:
        try:
            self._control.sendall(frames.words(Kind.CHECKED, intact=keeper.answer()))
        except EOFError:
            print("the process that holds the weights has ended", file=sys.stderr, flush=True)
            return False
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
            weights = [block.descriptor for block in self._placed.blocks] if self._placed else []
            walls.close_descriptors(keep=[descriptor, *weights])
            # Its own two files of /proc, for the check after a job; they tell it nothing of anybody else.
            with (
                socket.socket(fileno=descriptor) as sock,
                open("/proc/self/pagemap", "rb", buffering=0) as pagemap,
                open("/proc/self/status", "rb") as told,
            ):
                own = self._tell_own(pagemap)  # behind the walls it is too late to begin
                if self._closed_in(sock):
                    self._execute(sock, own, told)
                    status = 0
        finally:
            os._exit(status)

    def _closed_in(self, sock: socket.socket) -> bool:
        """In the executor: put up its walls; where the kernel refuses one, say so instead of running a job."""
        from edif_backend.executors.executor import serve_refusal

        on_devices = bool(self._config.nodes)
        try:
            walls.limit(self._config.memory_bytes, on_devices)
            walls.cover(self._config.tmp_bytes, self._config.shown, own_proc=on_devices)
            walls.mute()
            walls.harden(self._config.nodes)
        except OSError as error:
            serve_refusal(sock, f"it could not be closed in ({error})")
            return False
        return True

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
    """Load the model onto the host, weights in huge pages where the kernel has them and they are computed with here."""
    say("Starting Python with torch and nnsight.")
    import torch

    from edif_backend.models.catalogue import ModelEntry
    from edif_backend.models.loading import load as load_model
    from edif_backend.models.snapshots import find

    torch.set_num_threads(1)
    torch.serialization.set_crc32_options(False)  # torch does not look at them; a result has a checksum as a whole
    device_memory.hide_gpus()
    entry = ModelEntry.model_validate(config.entry)
    snapshot = find(entry, Path(config.models_dir))
    if snapshot is None:
        raise ModelUnusable(f"{entry.id}: its files are not there or not complete.")
    say(f"Loading the weights of {entry.id}.")
    model = load_model(snapshot, entry, for_torch(config.pretended))
    if config.adapters:
        import peft  # noqa: F401 - so that no job has to
    if not config.devices:
        pages.weights_to_huge_pages(model._module)
    return model


def place(model: TransformersModel, config: ZygoteConfig, say: Callable[[str], None]) -> OnDevices | None:
    """Bring the weights onto the devices that they are to lie on, if that is elsewhere than here.

    Raises:
        ModelUnusable: the devices do not take them.
    """
    if not config.devices:
        return None
    say("Putting the weights onto their devices.")
    from edif_backend.executors.on_devices import OnDevices

    return OnDevices(model, config)


def needs_of(
    model: TransformersModel, config: ZygoteConfig, placed: OnDevices | None, say: Callable[[str], None]
) -> Profile | None:
    """What jobs of the model need, as it was measured at an earlier load or is now."""
    if config.profile:
        return Profile.model_validate(config.profile)
    say("Measuring how much memory its jobs need; this is done once.")
    from edif_backend.executors.measuring import measure

    longest = int(getattr(model._module.config.get_text_config(), "max_position_embeddings", 2048))
    return measure(model._module, longest, prepare=placed.attach if placed else None)


def rehearse(
    rehearsal: Rehearsal, model: TransformersModel, weights_here: bool
) -> tuple[list[pages.Stretch], Untouched | None]:
    """Play a job through, so that every fork finds code and weights warm.

    Args:
        weights_here: forks compute with the host's weights.

    Returns:
        The pages that a job writes to; and everything as it is before a job, None where changes would not be noticed.
    """
    from edif_backend.executors.pristine import CannotTell, Untouched

    if importlib.util.find_spec("edif"):
        importlib.import_module("edif")  # what a block may use (edif.keep) takes a quarter of a second to import
    for _ in range(2):
        rehearsal.play()
    gc.collect()
    try:
        untouched = Untouched.now(model._module, rehearsal.play, weights_here)
    except CannotTell as error:
        print(f"every executor takes one job: {error}", file=sys.stderr, flush=True)
        untouched = None
    gc.freeze()  # what is loaded is never garbage: collections in a fork must not touch its pages
    pages.collapse_heap()
    return pages.touched_by(rehearsal.play), untouched


def main() -> None:
    """Load, say that it is ready, fork on demand."""
    started_at = time.monotonic()
    config = ZygoteConfig(**json.loads(sys.argv[2]))
    if config.nodes:
        capabilities.uncover_proc()
    capabilities.give_up_root()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def say(text: str) -> None:
        control.sendall(frames.pack(Kind.LOADING, text.encode()))

    try:
        model = load(config, say)
        placed = place(model, config, say)
    except FabricError as error:
        sys.exit(str(error))  # its sentence is the last line, and the operator needs no traceback
    profile = needs_of(model, config, placed, say)
    job_bytes = placed.job_bytes if placed and placed.job_bytes else config.memory_bytes
    allowance = Allowance(profile, job_bytes, config.adapters, int(config.entry.get("context_tokens") or 0))
    say("Rehearsing a job.")
    from edif_backend.executors.rehearsal import Rehearsal
    from edif_backend.models.quantized import parameters_of

    rehearsal = Rehearsal(model, allowance, placed.layout if placed else None)
    touched, untouched = rehearse(rehearsal, model, weights_here=placed is None)
    insist_on_one_thread()
    parameters = parameters_of(model._module)
    seconds = round(time.monotonic() - started_at, 3)
    measured = profile.model_dump() if profile and not config.profile else None
    control.sendall(frames.words(Kind.READY, seconds=seconds, parameters=parameters, profile=measured))

    def execute(sock: socket.socket, own: OwnPages, status: BinaryIO) -> None:
        from edif_backend.executors.executor import serve, serve_refusal, serve_while_pristine

        pages.make_own(touched)  # while it waits for its job
        try:
            pristine = make_ready(rehearsal, placed, untouched, own, status)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be told, for nothing else hears it
            serve_refusal(sock, f"{type(error).__name__}: {error}")
            return
        layout = placed.layout if placed else None
        if pristine:
            serve_while_pristine(sock, model, config.threads, pristine, allowance, layout)
        else:
            serve(sock, model, config.threads, allowance, layout)

    Zygote(control, config, execute, telling_own(untouched, config), placed).serve()


def telling_own(untouched: Untouched | None, config: ZygoteConfig) -> Callable[[BinaryIO], OwnPages]:
    """How forks tell their own pages: beside a GPU, whose driver has memory of its own ways, by the page map."""
    from edif_backend.executors.own_pages import own_pages

    watched = untouched.watched() if untouched and not config.nodes else []
    return lambda pagemap: own_pages(pagemap, watched)


def insist_on_one_thread() -> None:
    """Raise RuntimeError where this process cannot fork safely."""
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len(threads) != 1:
        raise RuntimeError(f"the zygote has {len(threads)} threads and cannot fork safely: {', '.join(threads)}")


def make_ready(
    rehearsal: Rehearsal, placed: OnDevices | None, untouched: Untouched | None, own: OwnPages, status: BinaryIO
) -> Pristine | None:
    """In an executor, before its first job: come to the weights, note how everything is; None: it takes one job.

    Raises:
        Exception: whatever the devices' driver says.
    """
    from edif_backend.executors.pristine import Pristine

    if placed:
        placed.attach()
        rehearsal.play_whole()
    if not untouched:
        return None
    try:
        return Pristine(untouched, own, status, rehearsal.play_whole if placed else None)
    except NotImplementedError:  # jobs change what cannot be put back
        return None


if __name__ == "__main__":
    main()
