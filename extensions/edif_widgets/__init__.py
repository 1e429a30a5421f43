"""The front end that draws results, ready for JupyterLab.

Called by the hub, which tells each user server where the prebuilt extension is.
"""

from __future__ import annotations

from pathlib import Path


def labextension_path() -> Path:
    """The folder for JupyterLab's ``extra_labextensions_path``; built by ``extensions/build.sh``, may not exist yet."""
    return Path(__file__).parent / "labextension"
