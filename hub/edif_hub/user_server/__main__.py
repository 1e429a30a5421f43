"""``edif-server``: starts the user's server, as whatever spawner there is has it started; runs as the user.

Looks after the home first (room, tutorials), tells JupyterLab where our things lie, then becomes JupyterHub's own
single-user server in the same process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from edif_hub.shipped import package_folder, tutorials_folder
from edif_hub.user_server.room import Rescue, lack_of_room, remove_left_rescues
from edif_hub.user_server.settings import UserServerSettings
from edif_hub.user_server.tutorials import FOLDER, ship_tutorials

FIRST_PAGE = f"/lab/tree/{FOLDER}/00_hello.ipynb"
NEXT_PAGE = "/lab"


def prepare(settings: UserServerSettings) -> tuple[dict[str, str], Rescue | None]:
    """Bring the home up to date; gives the variables that the server is to have besides those it was started with.

    Where there is no room, these name a rescue, which is to be ended with the server.
    """
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
    rescue = Rescue() if lack else None
    if lack:
        notices.insert(0, lack)
    variables = {
        **(rescue.variables if rescue else {}),
        "JUPYTERHUB_DEFAULT_URL": FIRST_PAGE if first_time else NEXT_PAGE,
        "JUPYTER_PATH": str(package_folder("edif_kernel") / "jupyter"),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(map(str, _configurations(settings))),
        "EDIF_SERVER_NOTICES": json.dumps(notices),
    }
    return variables, rescue


def _configurations(settings: UserServerSettings) -> list[Path]:
    """Folders with our settings of Jupyter; ``closed`` leaves out of JupyterLab what its policy would stop anyway."""
    here = Path(__file__).parent
    return [here] if settings.output_scripts else [here, here / "closed"]


def stop_in_order(*_: object) -> None:
    """Take an interrupt, which is how the hub ends local servers, for a request to stop.

    Jupyter itself would leave everything as it is then, its kernels running.
    """
    signal.raise_signal(signal.SIGTERM)


def main() -> None:
    """Start the server; the arguments are the spawner's."""
    signal.signal(signal.SIGINT, stop_in_order)
    remove_left_rescues()
    variables, rescue = prepare(UserServerSettings())
    for name, value in variables.items():
        os.environ[name] = value
    sys.argv.append(f"--LabApp.extra_labextensions_path={package_folder('edif_widgets') / 'labextension'}")
    from jupyterhub.singleuser.app import main as serve  # noqa: PLC0415 (reads the variables when it is imported)

    try:
        serve()
    finally:
        if rescue:
            rescue.end()
    # All is in order.  A thread that writes a room's history may still wait for an event loop that is over, and Python
    # for the thread: the hub killed such a server a minute later.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
