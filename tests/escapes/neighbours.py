"""Attempts on other processes: their memory, descriptors, signals, shared memory, sockets, and the next job."""

from __future__ import annotations

from tests.escapes.attempts import Attempt, Attempts, Scene

ATTEMPTS = Attempts()


@ATTEMPTS.add
def see_other_processes(scene: Scene) -> bool:
    import os

    return sum(name.isdigit() for name in os.listdir("/proc")) > 1


@ATTEMPTS.add
def read_the_environment_of_another(scene: Scene) -> bool:
    with open(f"/proc/{scene['victim']}/environ", "rb") as file:
        return b"VICTIMS_KEY" in file.read()


@ATTEMPTS.add
def read_the_memory_of_another(scene: Scene) -> bool:
    with open(f"/proc/{scene['victim']}/mem", "rb", buffering=0) as file:
        return file is not None


@ATTEMPTS.add
def follow_the_root_of_another(scene: Scene) -> bool:
    import os

    return "usr" in os.listdir(f"/proc/{scene['victim']}/root")


@ATTEMPTS.add
def follow_the_descriptors_of_another(scene: Scene) -> bool:
    import os

    return bool(os.listdir(f"/proc/{scene['victim']}/fd"))


@ATTEMPTS.add
def signal_another(scene: Scene) -> bool:
    import os

    os.kill(scene["victim"], 0)
    return True


@ATTEMPTS.add
def signal_everybody(scene: Scene) -> bool:
    import os

    os.kill(-1, 0)
    return True


@ATTEMPTS.add
def signal_the_parent(scene: Scene) -> bool:
    import os

    os.kill(os.getppid() or 2, 0)
    return True


@ATTEMPTS.add
def trace_another(scene: Scene) -> bool:
    import ctypes

    seize = 0x4206
    return ctypes.CDLL(None).ptrace(seize, scene["victim"], None, None) == 0


@ATTEMPTS.add
def hold_another_by_descriptor(scene: Scene) -> bool:
    import os

    return os.pidfd_open(scene["victim"]) >= 0


@ATTEMPTS.add
def change_the_limits_of_another(scene: Scene) -> bool:
    import resource

    return bool(resource.prlimit(scene["victim"], resource.RLIMIT_NOFILE))


@ATTEMPTS.add
def move_another_to_one_core(scene: Scene) -> bool:
    import os

    os.sched_setaffinity(scene["victim"], os.sched_getaffinity(scene["victim"]))
    return True


@ATTEMPTS.add
def slow_another_down(scene: Scene) -> bool:
    import os

    os.setpriority(os.PRIO_PROCESS, scene["victim"], os.getpriority(os.PRIO_PROCESS, scene["victim"]))
    return True


@ATTEMPTS.add
def open_shared_memory_of_another(scene: Scene) -> bool:
    with open(scene["shared_memory"]) as file:
        return "secret" in file.read()


@ATTEMPTS.add
def find_an_inherited_descriptor(scene: Scene) -> bool:
    import os
    import stat

    found = []
    for number in range(3, 1024):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG and status.st_size == 0:
            try:
                proc = b"PPid" in os.pread(number, 4096, 0)
            except OSError:  # what the kernel's notes of written pages hang on
                kind, proc = 0, False
            kind = "status" if proc else kind
        found.append(kind)
    # an executor's one socket, the pagemap and status of itself in /proc, and the notes of its written pages
    allowed = [stat.S_IFSOCK, stat.S_IFREG, "status", 0]
    for kind in found:
        if kind not in allowed:
            return True
        allowed.remove(kind)
    return False


@ATTEMPTS.add
def have_an_inherited_secret(scene: Scene) -> bool:
    import os

    return "THE_OPERATORS_SECRET" in os.environ


@ATTEMPTS.add
def start_a_process(scene: Scene) -> bool:
    import os

    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid > 0


@ATTEMPTS.add
def leave_a_process_behind(scene: Scene) -> bool:
    import subprocess

    return subprocess.Popen(["/bin/sleep", "1"], start_new_session=True).pid > 0


@ATTEMPTS.add
def trace_oneself_through_a_helper(scene: Scene) -> bool:
    import multiprocessing

    worker = multiprocessing.get_context("fork").Process(target=int)
    worker.start()
    worker.join()
    return worker.exitcode == 0


def _patch_torch(scene: Scene) -> None:
    import torch

    torch.relu = lambda tensor: "patched"


def _torch_is_patched(scene: Scene) -> bool:
    import torch

    return torch.relu(torch.ones(1)) == "patched"


def _patch_linear(scene: Scene) -> None:
    import torch

    torch.nn.Linear.forward = lambda self, given: "patched"


def _linear_is_patched(scene: Scene) -> bool:
    import torch

    return torch.nn.Linear(1, 1)(torch.ones(1)) == "patched"


def _patch_builtins(scene: Scene) -> None:
    import builtins

    builtins.stolen = []


def _builtins_are_patched(scene: Scene) -> bool:
    import builtins

    return hasattr(builtins, "stolen")


def _plant_module(scene: Scene) -> None:
    import sys
    import types

    sys.modules["planted"] = types.ModuleType("planted")


def _module_is_planted(scene: Scene) -> bool:
    import planted

    return planted is not None


def _plant_file(scene: Scene) -> None:
    with open("/tmp/left-for-the-next-job", "w") as file:
        file.write("hello")


def _file_is_planted(scene: Scene) -> bool:
    import os

    found = os.path.exists("/tmp/left-for-the-next-job")
    os.unlink("/tmp/left-for-the-next-job")
    return found


def _plant_variable(scene: Scene) -> None:
    import os

    os.environ["LD_PRELOAD"] = "/tmp/evil.so"


def _variable_is_planted(scene: Scene) -> bool:
    import os

    return "LD_PRELOAD" in os.environ


def _set_dtype(scene: Scene) -> None:
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)


def _dtype_is_set(scene: Scene) -> bool:
    import torch

    return torch.get_default_dtype() is torch.float64


def _leave_thread(scene: Scene) -> None:
    import threading
    import time

    threading.Thread(target=time.sleep, args=(20,), daemon=True, name="left").start()


def _thread_is_left(scene: Scene) -> bool:
    import threading

    return any(thread.name == "left" for thread in threading.enumerate())


def _fix_seed(scene: Scene) -> None:
    import torch

    torch.manual_seed(1234)


def _seed_is_fixed(scene: Scene) -> bool:
    import torch

    expected = torch.rand(4, generator=torch.Generator().manual_seed(1234))
    return torch.equal(torch.rand(4), expected)


for first, then in (
    (_patch_torch, _torch_is_patched),
    (_patch_linear, _linear_is_patched),
    (_patch_builtins, _builtins_are_patched),
    (_plant_module, _module_is_planted),
    (_plant_file, _file_is_planted),
    (_plant_variable, _variable_is_planted),
    (_set_dtype, _dtype_is_set),
    (_leave_thread, _thread_is_left),
    (_fix_seed, _seed_is_fixed),
):
    ATTEMPTS.append(Attempt(f"next job: {first.__name__[1:]}", first, then=then))
