"""What a zygote needs to know, handed over as JSON on its command line by the pool that starts it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from edif_backend.models.devices import Shares


@dataclass(frozen=True, slots=True)
class ZygoteConfig:
    """All of it."""

    entry: dict[str, Any]  #: the catalogue entry
    models_dir: str  #: where its snapshot is
    threads: int  #: torch threads of each executor
    memory_bytes: int  #: address space of an executor beyond what is mapped
    tmp_bytes: int  #: size of an executor's private /tmp
    shown: tuple[str, ...]  #: folders that the jail shows
    adapters: dict[str, str]  #: folders of the PEFT adapters of the model, by name
    profile: dict[str, Any] | None  #: what jobs of the model need, if it was measured before
    pretended: Shares = ()  #: devices that only pretend, and the bytes that each has for the model
    devices: Shares = ()  #: those that hold the weights; none: the host's memory does
    nodes: tuple[str, ...] = ()  #: of these devices, in /dev
    executors: int = 1  #: processes that use a device at the same time, jobs or not
    slots: int = 1  #: jobs at the same time

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))
