"""What a user server starts with: home folder, environment, kernel key, tutorials, JupyterLab's settings.

Called by JupyterHub through the hooks set in ``jupyterhub_config.py``; runs in the hub's process.

In an embedded installation user servers are processes of the hub's own Unix account, each in a home folder of its own.
That keeps honest users apart, not hostile ones: whoever can run code in one server can read the others' files and the
installation's secrets.  The jail is around the *backend's* executors; where users must be kept from each other's files,
a spawner with real accounts or containers takes this one's place.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from jupyterhub.spawner import Spawner

from edif_hub.keys import mint_key, revoke_keys
from edif_hub.tutorials import ship_tutorials
from edif_protocol.installation import Installation

FIRST_PAGE = "/lab/tree/tutorials/00_hello.ipynb"
NEXT_PAGE = "/lab"


def package_folder(name: str) -> Path:
    """Folder of the installed package ``name``, found without importing it (kernel packages are not for the hub)."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"The package {name} is not installed: run ./edif up, which installs all of them.")
    return Path(next(iter(found.submodule_search_locations)))


def tutorials_folder() -> Path:
    """The shipped notebooks: inside the kernel package in a wheel, at the top of a checkout."""
    kernel_package = package_folder("edif_kernel")
    inside = kernel_package / "notebooks"
    return inside if inside.is_dir() else kernel_package.parents[1] / "notebooks"


def environment(installation: Installation) -> dict[str, str]:
    """The variables of every user server, and so of every kernel; the key is added at each start."""
    return {
        **installation.environment("user-server"),
        "NDIF_HOST": installation.url("gateway"),
        "HF_ENDPOINT": installation.mirror_url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # only small files come here, and each bar would stay in the notebook
        "JUPYTER_PATH": str(package_folder("edif_kernel") / "jupyter"),
        "JUPYTER_CONFIG_PATH": str(Path(__file__).parent / "user_server"),
    }


def arguments() -> list[str]:
    """The settings of JupyterLab that depend on where packages lie; the others stand in ``user_server/``."""
    return [f"--LabApp.extra_labextensions_path={package_folder('edif_widgets') / 'labextension'}"]


def before_start(key_lifetime_s: int) -> Callable[[Spawner], None]:
    """The hook that prepares a home folder and mints a key valid for ``key_lifetime_s``."""

    def prepare(spawner: Spawner) -> None:
        home = Path(spawner.home_dir)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        first_time = ship_tutorials(tutorials_folder(), home)
        spawner.default_url = FIRST_PAGE if first_time else NEXT_PAGE
        spawner.environment = {
            **spawner.environment,
            "HF_HOME": str(home / ".cache" / "huggingface"),
            "NDIF_API_KEY": mint_key(spawner, key_lifetime_s),
        }

    return prepare


def after_stop(spawner: Spawner) -> None:
    """End the key that the stopped server's kernels had."""
    revoke_keys(spawner)
