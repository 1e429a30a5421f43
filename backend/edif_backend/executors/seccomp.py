"""seccomp: system calls that no traced block needs are refused before the kernel looks at their arguments.

A reasoned list of what is denied, as a classic BPF program for x86-64 and aarch64, written without a library: nothing
has to be compiled or installed.  Calls newer than this list are answered "not there".  Why each group is denied stands
in ``docs/decisions/jail.md``.  Called by :mod:`~edif_backend.executors.walls`, inside the jail.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

#: Name of each denied call, with its number on x86-64 and on aarch64 (None: it has no such call).
DENIED: dict[str, tuple[int | None, int | None]] = {
    # other processes: an executor is one process, so nothing is left behind and its memory is bounded by one limit
    "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    # sockets of any family; the one to the replica is already there
    "socket": (41, 198),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "statmount": (457, 457), "listmount": (458, 458),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "mknod": (133, None), "mknodat": (259, 33),
    # memory that no limit counts: it belongs to no mapping, or outlives the process that made it
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180),
    # wide doors into the kernel, each with a history of holes
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "personality": (135, 92), "modify_ldt": (154, None), "ioperm": (173, None), "iopl": (172, None),
    "lookup_dcookie": (212, 18), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # the machine itself
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "create_module": (174, None),
    "query_module": (178, None), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "syslog": (103, 116),
    "vhangup": (153, 58), "sethostname": (170, 161), "setdomainname": (171, 162), "nfsservctl": (180, 42),
    "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None),
}  # fmt: skip
_CLONE, _CLONE3, _IOCTL = (56, 220), (435, 435), (16, 29)
_AF_UNIX = 1
_LAST_KNOWN = 462
_X32 = 0x4000_0000
#: A thread, and none of the new namespaces.
_CLONE_THREAD, _CLONE_NEW = 0x0001_0000, 0x7E02_0080
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # type into the terminal of whoever started us
#: Of requests to userfaultfd: an executor has one (``own_pages``), and nothing more can be asked of it.
_KIND_BITS, _USERFAULTFD = 0xFF00, 0xAA00

#: ``AUDIT_ARCH_…`` and the column of the tables above.
_MACHINES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}

_LOAD, _AND, _EQUAL, _GREATER_EQUAL, _BITS, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data
_ALLOW, _KILL = 0x7FFF_0000, 0x8000_0000
_REFUSE, _ABSENT = 0x0005_0000 | errno.EPERM, 0x0005_0000 | errno.ENOSYS

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_libc = ctypes.CDLL(None, use_errno=True)

_Step = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def number(name: str, machine: str) -> int | None:
    """The number of a denied call; None for a machine without a table."""
    return DENIED[name][_MACHINES[machine][1]] if machine in _MACHINES else None


def program(machine: str, local_sockets: bool = False) -> bytes | None:
    """The filter as the kernel reads it; None for a machine without a table.

    Args:
        local_sockets: let sockets of the family AF_UNIX be made.
    """
    if machine not in _MACHINES:
        return None
    architecture, column = _MACHINES[machine]
    steps: list[_Step] = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    steps += [(_LOAD, 0, 0, _NUMBER), (_GREATER_EQUAL, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    steps += [(_GREATER_EQUAL, 0, 1, _LAST_KNOWN + 1), (_RETURN, 0, 0, _ABSENT)]
    for name, numbers in DENIED.items():
        number = numbers[column]
        if number is not None and name == "socket" and local_sockets:
            steps += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST), (_EQUAL, 1, 0, _AF_UNIX)]
            steps += [(_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, _NUMBER)]
        elif number is not None:
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    # glibc makes its threads with clone when there is no clone3, whose flags a filter cannot read
    steps += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ABSENT)]
    steps += [
        (_EQUAL, 0, 5, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST),
        (_BITS, 2, 0, _CLONE_NEW),
        (_BITS, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    steps += [
        (_EQUAL, 0, 6, _IOCTL[column]),
        (_LOAD, 0, 0, _SECOND),
        (_EQUAL, 3, 0, _TIOCSTI),
        (_EQUAL, 2, 0, _TIOCLINUX),
        (_AND, 0, 0, _KIND_BITS),
        (_EQUAL, 0, 1, _USERFAULTFD),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def load(local_sockets: bool = False) -> bool:
    """Put the filter around this process, for good; it must have one thread and no new privileges.

    Args:
        local_sockets: let sockets of the family AF_UNIX be made: CUDA does not start without.

    Returns:
        Whether it holds: not on another machine than the two, nor on a kernel without seccomp.

    Raises:
        OSError: the kernel has it and refused it.
    """
    code = program(platform.machine(), local_sockets)
    if code is None:
        return False
    steps = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(steps))
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0) != 0:
        number = ctypes.get_errno()
        if number == errno.EINVAL:
            return False
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return True
