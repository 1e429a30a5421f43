"""What makes an IPython kernel an eDIF kernel: the routing of traces and the ``%edif`` magic.

Loaded before the first cell by :mod:`edif_kernel.__main__`; any other Jupyter kernel becomes one with
``%load_ext edif_kernel.startup``.
"""

from __future__ import annotations

import importlib

from IPython.core.interactiveshell import InteractiveShell

from edif_kernel import refusals
from edif_kernel.magics import EdifMagics
from edif_kernel.routing import Routing


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Install routing and magics in ``shell``; nnsight and torch are not imported before the user does."""
    # nnsight puts `.save` on every object, and anyio's backends cannot be imported after that: uploads and
    # downloads would fail. So they come first.
    importlib.import_module("anyio._backends._asyncio")
    routing = Routing()
    routing.install_when_nnsight_is_imported()
    refusals.install_when_nnsight_is_imported()
    shell.register_magics(EdifMagics(shell, routing))
