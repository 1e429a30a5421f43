"""Attempts on files: other people's, the installation's, the model's, the system's; and on what paths can trick."""

from __future__ import annotations

from tests.escapes.attempts import Attempts, Scene

ATTEMPTS = Attempts()


def read(scene: Scene, name: str) -> bool:
    with open(scene.get(name, name), "rb") as file:
        return bool(file.read(1))


ATTEMPTS.each(
    "read",
    read,
    {
        "a secret of another user": "secret",
        "the jobs database": "database",
        "the list of accounts": "/etc/passwd",
        "the name of the machine": "/etc/hostname",
        "the command line of the first process": "/proc/1/cmdline",
        "the mounts": "/proc/self/mounts",
        "the version of the kernel": "/proc/version",
        "a kernel setting": "/proc/sys/kernel/osrelease",
    },
)
ATTEMPTS.each(
    "read", read, {"the passwords": "/etc/shadow", "the devices": "/sys/kernel/uevent_seqnum"}, needs_root=True
)


@ATTEMPTS.add
def list_home_folders(scene: Scene) -> bool:
    import os

    return bool(os.listdir(scene["home"]))


@ATTEMPTS.add
def write_to_the_model(scene: Scene) -> bool:
    with open(scene["model_file"], "r+b") as file:
        return file.writable()


@ATTEMPTS.add
def cut_the_model_off(scene: Scene) -> bool:
    import os

    os.truncate(scene["model_file"], os.path.getsize(scene["model_file"]))
    return True


@ATTEMPTS.add
def make_the_model_writable(scene: Scene) -> bool:
    import os

    os.chmod(scene["model_file"], 0o644)
    return True


@ATTEMPTS.add
def put_a_file_beside_the_model(scene: Scene) -> bool:
    import os

    path = os.path.join(os.path.dirname(scene["model_file"]), "more.json")
    with open(path, "w") as file:
        file.write("{}")
    os.unlink(path)
    return True


@ATTEMPTS.add
def rename_the_model(scene: Scene) -> bool:
    import os

    os.rename(scene["model_file"], scene["model_file"] + ".old")
    os.rename(scene["model_file"] + ".old", scene["model_file"])
    return True


@ATTEMPTS.add
def link_the_model_to_a_place_of_ones_own(scene: Scene) -> bool:
    import os

    target = os.path.join("/tmp", f"linked-{os.getpid()}")
    os.link(scene["model_file"], target)
    os.unlink(target)
    return True


@ATTEMPTS.add
def map_the_model_for_writing(scene: Scene) -> bool:
    import mmap
    import os

    number = os.open(scene["model_file"], os.O_RDWR)
    return len(mmap.mmap(number, 0)) > 0


@ATTEMPTS.add
def patch_an_installed_package(scene: Scene) -> bool:
    import torch

    with open(torch.__file__, "r+b") as file:
        return file.writable()


@ATTEMPTS.add
def leave_byte_code_for_the_next(scene: Scene) -> bool:
    import os

    import torch

    path = os.path.join(os.path.dirname(torch.__file__), "__pycache__", "left-here")
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)
    return True


@ATTEMPTS.for_root
def write_to_the_system(scene: Scene) -> bool:
    import os

    with open("/usr/left-by-a-test", "w") as file:
        file.write("x")
    os.unlink("/usr/left-by-a-test")
    return True


@ATTEMPTS.for_root
def write_a_kernel_setting(scene: Scene) -> bool:
    with open("/proc/sys/kernel/core_pattern", "r+") as file:
        return file.writable()


@ATTEMPTS.for_root
def open_the_kernels_log(scene: Scene) -> bool:
    with open("/dev/kmsg", "rb", buffering=0) as file:
        return file.readable()


@ATTEMPTS.add
def reach_a_secret_through_a_link(scene: Scene) -> bool:
    import os

    link = f"/tmp/link-{os.getpid()}"
    os.symlink(scene["secret"], link)
    try:
        with open(link) as file:
            return bool(file.read())
    finally:
        os.unlink(link)


@ATTEMPTS.add
def reach_a_secret_by_climbing(scene: Scene) -> bool:
    with open("/usr/../proc/self/cwd/../../../.." + scene["secret"]) as file:
        return bool(file.read())


@ATTEMPTS.add
def reach_a_secret_through_proc(scene: Scene) -> bool:
    with open("/proc/self/root" + scene["secret"]) as file:
        return bool(file.read())


@ATTEMPTS.add
def write_to_ones_own_memory_file(scene: Scene) -> bool:
    with open("/proc/self/mem", "r+b", buffering=0) as file:
        return file.writable()


@ATTEMPTS.for_root
def change_the_owner_of_a_file(scene: Scene) -> bool:
    import os

    path = f"/tmp/owned-{os.getpid()}"
    with open(path, "w") as file:
        file.write("x")
    try:
        os.chown(path, 0, 12)
        return os.stat(path).st_gid == 12
    finally:
        os.unlink(path)
