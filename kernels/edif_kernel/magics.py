"""The ``%edif`` magic: where traces go, and changing it.

Registered by :mod:`edif_kernel.startup`; runs in the kernel's process.  It never prints a key.
"""

from __future__ import annotations

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class

import edif
from edif.settings import ClientSettings
from edif_kernel.routing import Mode, Routing

HELP = """\
%edif                 where traces go, the backend's address and models
%edif remote auto     to the backend, unless the model's weights are loaded in this kernel (the default)
%edif remote on       always to the backend
%edif remote off      as in plain nnsight: only with remote=True
%edif help            this text

remote=True or remote=False in a call always wins: with model.trace(prompt, remote=False): …"""

_MEANING = {
    Mode.AUTO: "to the backend, unless the model's weights are loaded in this kernel",
    Mode.ON: "always to the backend, unless the call says remote=False",
    Mode.OFF: "nowhere by themselves: a call must say remote=True",
}


@magics_class
class EdifMagics(Magics):
    """``%edif``, ``%edif remote on|off|auto``, ``%edif help``."""

    def __init__(self, shell: InteractiveShell, routing: Routing) -> None:
        super().__init__(shell)
        self.routing = routing

    @line_magic
    def edif(self, line: str) -> None:
        """Show or change where traces go; ``%edif help`` says how."""
        match line.split():
            case []:
                print(self._status())
            case ["help"]:
                print(HELP)
            case ["remote", mode] if mode in set(Mode):
                self.routing.mode = Mode(mode)
                print(f"Traces go {_MEANING[self.routing.mode]}.")
            case _:
                raise UsageError(f"%edif {line}: not known.\n{HELP}")

    def _status(self) -> str:
        settings = ClientSettings()
        lines = [f"Traces go {_MEANING[self.routing.mode]}.", f"Backend: {settings.host}"]
        try:
            seen = edif.status()
        except edif.EdifError as error:
            return "\n".join([*lines, str(error)])
        if not settings.key.get_secret_value():
            lines.append("Key: none. NDIF_API_KEY is not set; restart the server from the hub's page to get one.")
        elif seen.user is None:
            lines.append("Key: not accepted. It has ended; restart the server from the hub's page to get a new one.")
        else:
            ends = " (this key ends when the server stops)" if settings.user else ""
            lines.append(f"User: {seen.user}{ends}")
        lines.append(f"Waiting jobs: {seen.waiting}")
        return "\n".join([*lines, "Models:", *(f"  {row}" for row in repr(seen.models).splitlines())])
