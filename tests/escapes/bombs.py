"""Attempts to take more than one's share, each a little above the limit that the suite sets."""

from __future__ import annotations

from tests.escapes.attempts import Attempts, Scene

ATTEMPTS = Attempts()


@ATTEMPTS.add
def many_processes(scene: Scene) -> bool:
    import os

    for _ in range(8):
        if os.fork() == 0:
            os._exit(0)
    return True


@ATTEMPTS.add
def many_threads(scene: Scene) -> bool:
    import threading

    stop = threading.Event()
    threading.stack_size(64 << 10)
    try:
        for _ in range(200):
            threading.Thread(target=stop.wait, daemon=True).start()
    finally:
        stop.set()
    return True


@ATTEMPTS.add
def memory_by_mapping(scene: Scene) -> bool:
    import mmap

    return len(mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)) > 0


@ATTEMPTS.add
def memory_by_tensors(scene: Scene) -> bool:
    import torch

    return torch.empty(4 << 30, dtype=torch.uint8).numel() > 0


@ATTEMPTS.add
def memory_in_files_without_a_name(scene: Scene) -> bool:
    import os

    number = os.memfd_create("hidden")
    return os.write(number, bytes(1 << 20)) > 0


def fill(scene: Scene, folder: str) -> bool:
    import os

    path = f"{folder}/filled-{os.getpid()}"
    try:
        with open(path, "wb") as file:
            file.writelines(bytes(1 << 20) for _ in range(32))
        return True
    finally:
        os.unlink(path)


ATTEMPTS.each("fill", fill, {"/tmp": "/tmp", "/dev/shm": "/dev/shm"})


@ATTEMPTS.add
def many_descriptors(scene: Scene) -> bool:
    import os

    made: list[int] = []
    try:
        made.extend(os.dup(0) for _ in range(600))
    finally:
        for number in made:
            os.close(number)
    return True


@ATTEMPTS.add
def a_larger_limit(scene: Scene) -> bool:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (700, 4096))
    return True


@ATTEMPTS.add
def a_core_dump(scene: Scene) -> bool:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
    return True
