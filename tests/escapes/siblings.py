"""Attempts on another user's executor, forked from the same zygote, while it runs a job with secrets everywhere.

In the control the other one is a plain process.  ``scene["others"]`` are the process ids to look for it under: inside
the jail nobody can know it, so all that are likely are tried.
"""

from __future__ import annotations

from tests.escapes.attempts import Attempts, Scene

ATTEMPTS = Attempts()


def hide(scene: Scene) -> int:
    """What the other one does: leaves secrets where others could look, says so, and waits."""
    import os
    import socket
    import time

    name = scene["name"]
    for folder in ("/tmp", "/dev/shm"):
        with open(f"{folder}/{name}", "w") as file:
            file.write("secret")
    kept = open(f"/tmp/{name}")  # noqa: SIM115 - others are to find the descriptor
    try:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"\0{name}")
        listening.listen()
    except OSError:
        listening = None  # the jail has no sockets
    print("hidden in", os.getpid(), flush=True)
    if scene["told"]:
        with open(scene["told"], "w") as file:
            file.write(f"{os.getpid()} {id(scene)} told")
    time.sleep(scene["seconds"])
    return int(kept.closed or listening is None)


@ATTEMPTS.add
def a_siblings_file(scene: Scene) -> bool:
    with open(f"/tmp/{scene['name']}") as file:
        return file.read() == "secret"


@ATTEMPTS.add
def a_siblings_shared_memory(scene: Scene) -> bool:
    with open(f"/dev/shm/{scene['name']}") as file:
        return file.read() == "secret"


@ATTEMPTS.add
def a_siblings_abstract_socket(scene: Scene) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(f"\0{scene['name']}")
        return True


@ATTEMPTS.add
def a_signal_to_a_sibling(scene: Scene) -> bool:
    import contextlib
    import os

    for pid in scene["others"]:
        with contextlib.suppress(OSError):
            if pid not in (os.getpid(), os.getppid()):
                os.kill(pid, 0)
                return True
    return False


@ATTEMPTS.add
def a_siblings_descriptors(scene: Scene) -> bool:
    import contextlib
    import os

    for pid in scene["others"]:
        with contextlib.suppress(OSError):
            if pid != os.getpid():
                return len(os.listdir(f"/proc/{pid}/fd")) > 0
    return False


@ATTEMPTS.for_root
def a_siblings_memory(scene: Scene) -> bool:
    import contextlib
    import os

    for pid in scene["others"]:
        with contextlib.suppress(OSError):
            if pid != os.getpid():
                with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
                    return file.readable()
    return False


@ATTEMPTS.for_root
def a_siblings_memory_by_call(scene: Scene) -> bool:
    import ctypes
    import os

    class Piece(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    room = ctypes.create_string_buffer(8)
    # Forks of one zygote have the same addresses.
    address = scene.get("address") or ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "Py_Version"))
    here, there = Piece(ctypes.addressof(room), 4), Piece(address, 4)
    call = ctypes.CDLL(None).process_vm_readv
    tried = [pid for pid in scene["others"] if pid != os.getpid()]
    return any(call(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) == 4 for pid in tried)


@ATTEMPTS.for_root
def a_sibling_traced(scene: Scene) -> bool:
    import ctypes
    import os

    seize = 0x4206
    trace = ctypes.CDLL(None).ptrace
    return any(trace(seize, pid, None, None) == 0 for pid in scene["others"] if pid != os.getpid())
