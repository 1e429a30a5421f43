"""The jail's inner wall: what a fork of the zygote does before it touches anything of a user's.

Namespaces of its own (user, pid, mount, ipc, net, uts), ``/proc`` covered, a private ``/tmp``, every inherited
descriptor closed, limits on memory and processes; then no privilege, Landlock and seccomp, for good.  Two executors
then share the zygote's pages and nothing else.  Runs inside the jail, in a process with one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterable, Sequence
from pathlib import Path

from edif_backend.executors import capabilities, landlock, seccomp

_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND = 2, 4, 8, 4096
_PR_SET_DUMPABLE = 4

#: Of an executor, from -1000 (never taken) to 1000 (taken first).
OOM_SCORE = 900

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def leave_namespaces() -> None:
    """Leave the zygote's namespaces; the pid namespace takes effect for the next fork.

    Raises:
        OSError: the kernel does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_USER | _NEW_PID | _NEW_NS | _NEW_IPC | _NEW_NET | _NEW_UTS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def cover(tmp_bytes: int, shown: Sequence[str], own_proc: bool = False) -> None:
    """Cover ``/proc`` with an empty folder and ``/tmp`` and ``/dev/shm`` with private ones of limited size.

    Folders of ``shown`` that lie under ``/tmp`` (an installation may) stay visible, read-only as they were.

    Args:
        own_proc: show a ``/proc`` of the own pid namespace, with nothing in it but this process: CUDA reads there.

    Raises:
        OSError: the kernel does not allow it.
    """
    flags = _MS_NOSUID | _MS_NODEV
    kept = {folder: os.open(folder, os.O_PATH) for folder in shown if folder.startswith("/tmp/")}
    _call("mount", b"tmpfs", b"/tmp", b"tmpfs", flags, f"size={tmp_bytes},mode=700".encode())
    for folder, descriptor in kept.items():
        os.makedirs(folder, exist_ok=True)
        _call("mount", f"/proc/self/fd/{descriptor}".encode(), folder.encode(), None, _MS_BIND, None)
        os.close(descriptor)
    _call("mount", b"tmpfs", b"/dev/shm", b"tmpfs", flags | _MS_NOEXEC, f"size={tmp_bytes},mode=700".encode())
    if own_proc:
        _call("mount", b"proc", b"/proc", b"proc", flags | _MS_NOEXEC, b"subset=pid")
    else:
        _call("mount", b"tmpfs", b"/proc", b"tmpfs", flags | _MS_NOEXEC, b"size=4096,mode=555")
    os.chdir("/tmp")


def close_descriptors(keep: Iterable[int]) -> None:
    """Close everything inherited but standard input, output, error and ``keep``."""
    first = 3
    for descriptor in sorted(keep):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 65536)


def limit(memory_bytes: int, on_devices: bool = False) -> None:
    """Bound what this process may take: memory beyond what is mapped, processes, descriptors; no core dumps.

    Args:
        on_devices: CUDA reserves far more address space than there is memory, so what may be written to is bounded.
    """
    sizes = Path("/proc/self/statm").read_text().split()
    mapped, data = (int(sizes[place]) * os.sysconf("SC_PAGE_SIZE") for place in (0, 5))
    if on_devices:
        resource.setrlimit(resource.RLIMIT_DATA, (data + memory_bytes,) * 2)
    else:
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))
    # Where memory runs out, the kernel takes an executor, and neither the zygote nor anything else of the machine.
    with contextlib.suppress(OSError):  # some containers forbid it, and no wall hangs on it
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    # CUDA names its threads through /proc/self, which is root's where a process cannot be dumped; nobody else sees it.
    _call("prctl", _PR_SET_DUMPABLE, int(on_devices), 0, 0, 0)


def mute() -> None:
    """Point standard output and error nowhere; what Python code prints travels as frames instead."""
    nowhere = os.open("/dev/null", os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def harden(devices: Sequence[str] = ()) -> dict[str, int]:
    """Give up every privilege and put Landlock and seccomp around this process; the last wall before user code.

    Args:
        devices: nodes of GPUs that it may use; CUDA then also makes sockets to nobody (``docs/decisions``).

    Returns:
        What holds: ``no_new_privileges``, ``capabilities``, ``landlock`` (its version), ``seccomp``; 0 for what this
        kernel does not have.

    Raises:
        OSError: the kernel has it and refused it.
    """
    capabilities.no_new_privileges()
    capabilities.drop_all()
    version = landlock.restrict(writable=("/tmp", "/dev/shm"), devices=devices, own_proc=bool(devices))
    held = int(seccomp.load(local_sockets=bool(devices)))
    return {"no_new_privileges": 1, "capabilities": 1, "landlock": version, "seccomp": held}
