"""Where what is shipped lies: folders of installed packages, found without importing them.

Used by the user server, whose kernels' packages are heavy, and by tests.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_folder(name: str) -> Path:
    """Folder of the installed package ``name``."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"The package {name} is not installed: run ./edif up, which installs all of them.")
    return Path(next(iter(found.submodule_search_locations)))


def tutorials_folder() -> Path:
    """The shipped notebooks: inside the kernel package in a wheel, at the top of a checkout."""
    kernel_package = package_folder("edif_kernel")
    inside = kernel_package / "notebooks"
    return inside if inside.is_dir() else kernel_package.parents[1] / "notebooks"
