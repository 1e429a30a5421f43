"""Rights given up for good: no new privileges, no capability, and for real root another account.

Called by :mod:`~edif_backend.executors.walls`, inside the jail, in a process with one thread.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_DUMPABLE, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 4, 28, 38, 24, 47
_CLEAR_ALL = 4
_DETACH = 2
#: No root by uid 0, no setuid fix-up, no keeping, no ambient raise; each locked.
_ALL_SECUREBITS = 0b11_10_11_11
_CAPABILITY_VERSION_3 = 0x20080522

#: The account that stands in for real root: in Debian's range for nobody in particular, and nothing is owned by it.
STAND_IN = 64_993

_libc = ctypes.CDLL(None, use_errno=True)


def give_up_root() -> None:
    """Become the stand-in when this is uid 0; otherwise change nothing.

    The kernel exempts the real root from RLIMIT_NPROC and lets it write what root owns; so it runs no user code.
    """
    if os.getuid() != 0:
        return
    os.setgroups([])
    os.setresgid(STAND_IN, STAND_IN, STAND_IN)
    os.setresuid(STAND_IN, STAND_IN, STAND_IN)
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its own /proc/self belongs to root


def uncover_proc() -> None:
    """As real root: take away what bubblewrap has put over parts of ``/proc``; otherwise change nothing.

    Executors of a GPU mount a ``/proc`` of their own, which the kernel allows only where one without covers is there.
    Root alone could write to these parts, and :func:`give_up_root` follows.
    """
    if os.getuid() != 0:
        return
    for name in (b"sys", b"sysrq-trigger", b"irq", b"bus"):
        _libc.umount2(b"/proc/" + name, _DETACH)  # fails where nothing was put over it


def no_new_privileges() -> None:
    """From here on no program that is started gains rights, setuid or not.

    Raises:
        OSError: the kernel does not know it.
    """
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def drop_all() -> None:
    """Drop every capability, also those inside the own user namespace, from every set.

    Raises:
        OSError: the kernel does not allow it.
    """
    _check(_libc.prctl(_PR_SET_SECUREBITS, _ALL_SECUREBITS, 0, 0, 0), "securebits")
    _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # the last one that this kernel knows has been dropped
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, nothing), "capset")


def _check(status: int, what: str) -> None:
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
