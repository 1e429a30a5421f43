"""A model's weights on devices, as its zygote sees them: a keeper that holds them, and how a fork comes to them.

Made by :mod:`~edif_backend.executors.zygote`, inside the jail, for a model that lies elsewhere than in its memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edif_backend.errors import ModelUnusable
from edif_backend.executors.attached import attach
from edif_backend.executors.weights_keeper import Keeper, SharedBlock
from edif_backend.executors.weights_layout import Layout
from edif_backend.models.devices import CONTEXT_BYTES
from edif_backend.models.loading import device_of

if TYPE_CHECKING:
    from nnsight import TransformersModel

    from edif_backend.executors.zygote_config import ZygoteConfig

#: Of device memory, the least that is left for a job.
_LEAST_BYTES = 256 << 20


class OnDevices:
    """The model's weights on devices: their keeper, and how a fork comes to them."""

    def __init__(self, model: TransformersModel, config: ZygoteConfig) -> None:
        """Start the keeper.

        Raises:
            ModelUnusable: the devices do not take the model.
        """
        if config.entry.get("dtype") == "int8":
            raise ModelUnusable("int8 is for models in the host's memory: choose bfloat16 or nf4 for one on a GPU.")
        self._module, self._config = model._module, config
        names = [device for device, _ in config.devices]
        self.layout = Layout.of(self._module, names, device_of(self._module, config.devices))
        self.keeper: Keeper | None = None
        #: Device memory of one job, the part of an executor's own that torch counts; 0: not limited.
        self.job_bytes = 0
        self.take()

    @property
    def blocks(self) -> tuple[SharedBlock, ...]:
        """What executors map; nothing while the devices are let go of."""
        return self.keeper.blocks if self.keeper else ()

    def take(self) -> None:
        """Put the weights onto the devices, from the host's memory.

        Raises:
            ModelUnusable: they do not take them, or too little is left for jobs.
        """
        if self.keeper:
            return
        keeper = Keeper(self.layout)
        config = self._config
        room = keeper.free_bytes - config.executors * CONTEXT_BYTES
        if config.nodes and room < config.slots * _LEAST_BYTES:
            keeper.end()
            raise ModelUnusable(
                f"The weights fit, but {keeper.free_bytes / 1e9:.1f} GB are left for {config.slots} jobs at once: "
                "give the model another device or more of them, or lower EDIF_BACKEND_SLOTS."
            )
        self.keeper, self.job_bytes = keeper, room // config.slots if config.nodes else 0

    def leave(self) -> None:
        """Let go of the devices; the weights stay in the host's memory."""
        if self.keeper:
            self.keeper.end()
            self.keeper = None

    def attach(self) -> None:
        """In a fork: use them."""
        attach(self._module, self.layout, self.blocks, self.job_bytes)
