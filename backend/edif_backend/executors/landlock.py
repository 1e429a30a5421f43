"""Landlock: the kernel refuses an executor files to write, TCP, and sockets and signals to the outside, mounts or not.

A second lock on what the namespaces already hide.  Called by :mod:`~edif_backend.executors.walls`, inside the jail.
Reads are left to what the jail shows; writes are for the private folders.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << bit for bit in range(6, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_CHANGE = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_FIFO | _MAKE_SYM | _REFER | _TRUNCATE
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract Unix sockets, signals

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Which version of Landlock this kernel speaks; 0 for none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION)))


def restrict(
    writable: Sequence[str],
    written: Sequence[str] = ("/dev/null",),
    devices: Sequence[str] = (),
    own_proc: bool = False,
) -> int:
    """Allow reading everywhere, changing only below ``writable``, writing the files ``written``, and no TCP at all.

    Args:
        devices: nodes that may be written to and asked what their driver answers.
        own_proc: ``/proc`` shows this process alone and may be written to: CUDA names its threads there.

    Returns:
        The version that holds; 0 when the kernel has none, and nothing was restricted.

    Raises:
        OSError: the kernel has Landlock and refused it.
    """
    version = abi()
    if not version:
        return 0
    handled = _FIRST_RIGHTS
    handled |= _REFER if version >= 2 else 0
    handled |= _TRUNCATE if version >= 3 else 0
    handled |= _IOCTL_DEV if version >= 5 else 0
    fields = [handled]
    if version >= 4:
        fields.append(_TCP)
    if version >= 6:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        _allow(ruleset, "/", _READ & handled)
        for folder in writable:
            _allow(ruleset, folder, (_READ_FILE | _READ_DIR | _CHANGE) & handled)
        for file in written:
            _allow(ruleset, file, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & handled)
        for node in devices:
            _allow(ruleset, node, (_READ_FILE | _WRITE_FILE | _IOCTL_DEV) & handled)
        if own_proc:
            _allow(ruleset, "/proc", (_READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE) & handled)
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, place)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(place)


def _checked(answer: int) -> int:
    if answer < 0:
        code = ctypes.get_errno() or errno.EINVAL
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return int(answer)
