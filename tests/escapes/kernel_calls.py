"""System calls aimed at the kernel and the machine, with arguments that do nothing even where they are allowed.

An attempt has succeeded when the kernel looks at the call: it does it, or finds fault with the arguments.
"""

from __future__ import annotations

import platform
from typing import Any

from tests.escapes.attempts import Attempts, Scene

from edif_backend.executors import seccomp

ATTEMPTS = Attempts()

_COLUMN = ("x86_64", "aarch64").index(platform.machine())
_NOWHERE = b"/nowhere/at/all"
_ANYBODY: dict[str, tuple[Any, ...]] = {
    "ptrace": (0, 0, 0, 0),
    "process_vm_readv": (1, None, 0, None, 0, 0),
    "process_vm_writev": (1, None, 0, None, 0, 0),
    "pidfd_getfd": (-1, 0, 0),
    "unshare": (0x1000_0000,),
    "setns": (-1, 0),
    "fsconfig": (-1, 99, None, None, 0),
    "name_to_handle_at": (-1, _NOWHERE, None, None, 0),
    "mknodat": (-100, _NOWHERE, 0o10600, 0),
    "memfd_create": (b"name", 0),
    "msgget": (0, 0),
    "semget": (0, 1, 0),
    "shmget": (0, 4096, 0),
    "io_uring_setup": (1, None),
    "add_key": (None, None, None, 0, 0),
    "request_key": (None, None, None, 0),
    "keyctl": (0, -3, 0),
    "personality": (0xFFFF_FFFF,),
    "move_pages": (0, 0, None, None, None, 0),
    "adjtimex": (None,),
    "bpf": (0, None, 0),
    "perf_event_open": (None, 0, -1, -1, 0),
}
_ROOT: dict[str, tuple[Any, ...]] = {
    "mount": (None, None, None, 0, None),
    "umount2": (_NOWHERE, 0),
    "pivot_root": (_NOWHERE, _NOWHERE),
    "chroot": (b"/",),
    "open_tree": (-100, b"/", 1),
    "move_mount": (-1, _NOWHERE, -1, _NOWHERE, 0),
    "fsopen": (b"tmpfs", 0),
    "open_by_handle_at": (-1, None, 0),
    "reboot": (0, 0, 0, None),
    "swapon": (_NOWHERE, 0),
    "swapoff": (_NOWHERE,),
    "acct": (_NOWHERE,),
    "settimeofday": (1, None),
    "clock_settime": (0, 1),
    "syslog": (10, None, 0),
    "sethostname": (None, -1),
    "setdomainname": (None, -1),
}


def looked_at(scene: Scene, case: tuple[int, tuple[Any, ...]]) -> bool:
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    number, arguments = case
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    if libc.syscall(ctypes.c_long(number), *words) >= 0:
        return True
    return ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)


def _cases(calls: dict[str, tuple[Any, ...]]) -> dict[str, tuple[int, tuple[Any, ...]]]:
    numbers = {name: seccomp.DENIED[name][_COLUMN] for name in calls}
    return {name: (number, calls[name]) for name, number in numbers.items() if number is not None}


ATTEMPTS.each("call", looked_at, _cases(_ANYBODY))
ATTEMPTS.each("call", looked_at, _cases(_ROOT), needs_root=True)


@ATTEMPTS.add
def clone_into_new_namespaces(scene: Scene) -> bool:
    import ctypes
    import os
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
    new_user, child_ended = 0x1000_0000, 17
    pid = libc.syscall(number, ctypes.c_long(new_user | child_ended), None, None, None, None)
    if pid == 0:
        os._exit(0)
    return pid > 0


@ATTEMPTS.add
def ask_userfaultfd_for_anything(scene: Scene) -> bool:
    """An executor has a descriptor of it, on which its notes of written pages hang."""
    import ctypes
    import fcntl
    import mmap
    import os
    import platform
    import struct

    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 323, "aarch64": 282}[platform.machine()]
    user_mode_only, write_protect = 1, 2
    made = libc.syscall(ctypes.c_long(number), ctypes.c_long(os.O_CLOEXEC | user_mode_only))
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    for descriptor in [made] if made >= 0 else range(256):
        try:
            if made >= 0:
                fcntl.ioctl(descriptor, 0xC018_AA3F, bytearray(struct.pack("3Q", 0xAA, 0, 0)))
            fcntl.ioctl(descriptor, 0xC020_AA00, bytearray(struct.pack("4Q", at, mmap.PAGESIZE, write_protect, 0)))
        except OSError:
            continue
        return True
    return False


@ATTEMPTS.for_root
def type_into_the_terminal_above(scene: Scene) -> bool:
    import errno
    import fcntl
    import os

    _, theirs = os.openpty()
    try:
        fcntl.ioctl(theirs, 0x5412, b"x")
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.EIO)
    return True


@ATTEMPTS.for_root
def regain_rights_through_capset(scene: Scene) -> bool:
    with open("/proc/self/status") as file:
        return any(line.startswith("CapEff") and int(line.split()[1], 16) for line in file)
