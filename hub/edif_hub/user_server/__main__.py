"""``edif-server``: starts the user's server, as whatever spawner there is has it started; runs as the user.

Looks after the home first (room, tutorials), tells JupyterLab where our things lie, then becomes JupyterHub's own
single-user server in the same process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from edif_hub.shipped import package_folder, tutorials_folder
from edif_hub.user_server.room import lack_of_room, rescue_variables
from edif_hub.user_server.settings import UserServerSettings
from edif_hub.user_server.tutorials import FOLDER, ship_tutorials

FIRST_PAGE = f"/lab/tree/{FOLDER}/00_hello.ipynb"
NEXT_PAGE = "/lab"


def prepare(settings: UserServerSettings) -> dict[str, str]:
    """Bring the home up to date; gives the variables that the server is to have besides those it was started with."""
    lack = lack_of_room(settings.home, settings.home_bytes, settings.disk_reserve_bytes)
    notices, first_time = list(settings.notices), False
    if lack is None:
        try:
            delivery = ship_tutorials(tutorials_folder(), settings.home)
        except OSError as error:  # the disk has become full just now, or the home is not the user's to write
            lack = f"The tutorials could not be brought up to date ({error.strerror}); your own files are as they were."
        else:
            first_time = delivery.first_time
            notices += [f"There is a new version of a tutorial beside yours: {name}" for name in delivery.beside]
    variables = rescue_variables() if lack else {}
    if lack:
        notices.insert(0, lack)
    return {
        **variables,
        "JUPYTERHUB_DEFAULT_URL": FIRST_PAGE if first_time else NEXT_PAGE,
        "JUPYTER_PATH": str(package_folder("edif_kernel") / "jupyter"),
        "JUPYTER_CONFIG_PATH": str(Path(__file__).parent),
        "EDIF_SERVER_NOTICES": json.dumps(notices),
    }


def main() -> None:
    """Start the server; the arguments are the spawner's."""
    for name, value in prepare(UserServerSettings()).items():
        os.environ[name] = value
    sys.argv.append(f"--LabApp.extra_labextensions_path={package_folder('edif_widgets') / 'labextension'}")
    from jupyterhub.singleuser.app import main as serve  # noqa: PLC0415 (reads the variables when it is imported)

    serve()


if __name__ == "__main__":
    main()
