"""A trial executor: takes the way of every executor into the jail and tells which layers hold, as JSON.

Started by :func:`edif_backend.executors.jail.trial` through bubblewrap; the arguments are the folders that are shown.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading

from edif_backend.executors import capabilities, walls

_MEMORY_BYTES, _TMP_BYTES = 1 << 30, 1 << 20


def _processes_counted() -> bool:
    """Whether the limit on processes binds this one."""
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    try:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
    except RuntimeError:
        return True
    return False


def main() -> int:
    """Fork as the zygote does, stand behind all walls, tell what held."""
    capabilities.give_up_root()
    middle = os.fork()
    if middle == 0:
        walls.leave_namespaces()
        executor = os.fork()
        if executor == 0:
            walls.limit(_MEMORY_BYTES)
            walls.cover(_TMP_BYTES, sys.argv[1:])
            held = walls.harden()
            print(json.dumps({**held, "processes_counted": int(_processes_counted())}), flush=True)
            os._exit(0)
        middle = executor
    _, status = os.waitpid(middle, 0)
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
