"""The keeper of a model's weights on devices: a process that holds them, and sees that nobody has changed them.

A fork of the zygote, inside the jail, that runs no user code.  The zygote itself never touches a device, since CUDA
does not survive a fork; executors map what the keeper has made.  They map it for reading, but code in their process
could ask the driver for more.  So the keeper is asked after each job whether all is as it was, and mends what is not
from the host's copy.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from edif_backend.errors import ModelUnusable
from edif_backend.executors import device_memory
from edif_backend.executors.weights_layout import Layout

_PR_SET_PDEATHSIG = 1
_ANSWER_BYTES = 65_536
_CHECK, _CHECK_ANSWER = b"?", 1
#: Words that are multiplied by keys at once; the product is what a check takes beside the weights.
_CHUNK_WORDS = 8 << 20


@dataclass(frozen=True, slots=True)
class SharedBlock:
    """What an executor needs to map one block; the descriptor is inherited."""

    device: str
    size_bytes: int
    descriptor: int


class Keeper:
    """The zygote's end of its keeper."""

    def __init__(self, layout: Layout) -> None:
        """Fork the keeper and wait until it holds the weights.

        Raises:
            ModelUnusable: the devices do not take them.
        """
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._ours.close()
            _keep(layout, theirs)
        theirs.close()
        message, descriptors, _, _ = socket.recv_fds(self._ours, _ANSWER_BYTES, len(layout.devices))
        told = json.loads(message or b"{}")
        if len(descriptors) != len(layout.devices):
            raise ModelUnusable(str(told.get("refused", "The process that holds the weights ended without a word.")))
        #: Bytes left on the device that has the least of them.
        self.free_bytes = int(told["free_bytes"])
        shared = zip(layout.devices, told["sizes"], descriptors, strict=True)
        self.blocks = tuple(SharedBlock(device, size, descriptor) for device, size, descriptor in shared)

    def fileno(self) -> int:
        """Readable when there is an answer."""
        return self._ours.fileno()

    def end(self) -> None:
        """End it; what it held is free when no executor maps it any more."""
        for block in self.blocks:
            os.close(block.descriptor)
        self._ours.close()
        os.kill(self.pid, signal.SIGKILL)

    def ask(self) -> None:
        """Have the weights checked."""
        self._ours.send(_CHECK)

    def answer(self) -> bool:
        """Whether they were as they should be; where not, they are again.

        Raises:
            EOFError: the keeper has ended.
        """
        told = self._ours.recv(_CHECK_ANSWER)
        if not told:
            raise EOFError
        return told == b"1"


def _keep(layout: Layout, sock: socket.socket) -> None:
    """The keeper's process."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            blocks = _hold(layout, sock)
        except (RuntimeError, device_memory.DeviceMemoryError) as error:  # torch raises RuntimeErrors for CUDA's
            sock.send(json.dumps({"refused": f"The weights could not be put onto {layout.devices}: {error}"}).encode())
            os._exit(1)
        keys = [torch.randint(-(1 << 62), 1 << 62, (_CHUNK_WORDS,), device=block.device) | 1 for block in blocks]
        digests = [digest(block, key) for block, key in zip(blocks, keys, strict=True)]
        while sock.recv(len(_CHECK)):
            intact = digests == [digest(block, key) for block, key in zip(blocks, keys, strict=True)]
            if not intact:
                layout.copy_into(blocks)
                if digests != [digest(block, key) for block, key in zip(blocks, keys, strict=True)]:
                    print("the weights on the device cannot be mended", file=sys.stderr, flush=True)
                    break
            sock.send(b"1" if intact else b"0")
        status = 0
    finally:
        os._exit(status)


def _hold(layout: Layout, sock: socket.socket) -> list[torch.Tensor]:
    """Make the blocks, fill them, hand them on."""
    device_memory.show_gpus()
    made = []
    for device, size in zip(layout.devices, layout.sizes, strict=True):
        if device != "cpu":
            torch.zeros(1, device=device)  # the driver's calls need a context
        made.append(device_memory.make(device, size))
    blocks = [block.tensor() for block, _ in made]
    layout.copy_into(blocks)
    devices = [device for device in layout.devices if device != "cpu"]
    free = [torch.cuda.mem_get_info(device)[0] for device in devices]
    told = {"sizes": [block.size_bytes for block, _ in made], "free_bytes": min(free, default=0)}
    socket.send_fds(sock, [json.dumps(told).encode()], [descriptor for _, descriptor in made])
    for _, descriptor in made:
        os.close(descriptor)
    return blocks


def digest(block: torch.Tensor, keys: torch.Tensor) -> int:
    """A keyed sum over all words of ``block``: who does not know the keys cannot change words so that it stays.

    Args:
        block: ``# (n,)`` of uint8, n a multiple of 8.
        keys: ``# (m,)`` odd numbers of int64; word i of each m words is multiplied by key i (modulo 2^64).
    """
    words = block.view(torch.int64)
    sums = [(chunk * keys[: len(chunk)]).sum() for chunk in words.split(len(keys))]
    return _folded([int(one) for one in torch.stack(sums).tolist()], int(keys[0]))


def _folded(sums: Sequence[int], key: int) -> int:
    total = 0
    for one in sums:
        total = (total * key + one) % (1 << 64)
    return total
