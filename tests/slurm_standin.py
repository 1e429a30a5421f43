"""Stands in for Slurm's three commands: runs the script that ``sbatch`` gets, with the variables that it exports.

``python slurm_standin.py FOLDER submit|query|cancel [ID]``: prints what Slurm would.  The script is kept in the folder,
whose ``home`` is the job's home.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path


def submit(folder: Path) -> str:
    """Start the job; gives its number."""
    script = sys.stdin.read()
    (folder / "script").write_text(script)
    exported = re.search(r"^#SBATCH --export=(.*)$", script, re.MULTILINE)
    assert exported, script
    names = exported[1].split(",")
    home = folder / "home"
    home.mkdir(exist_ok=True)
    with (folder / "output").open("ab") as output:
        job = subprocess.Popen(
            ["bash", str(folder / "script")],
            env={name: os.environ[name] for name in names if name in os.environ} | {"HOME": str(home)},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return str(job.pid)


def query(job: int) -> str:
    """The state and the node, or nothing when the job is over."""
    try:
        os.kill(job, 0)
    except ProcessLookupError:
        return ""
    return "RUNNING 127.0.0.1"


def cancel(job: int) -> str:
    """End all processes of the job."""
    os.killpg(job, signal.SIGTERM)
    return ""


if __name__ == "__main__":
    _, place, act, *of = sys.argv
    print(submit(Path(place)) if act == "submit" else {"query": query, "cancel": cancel}[act](int(of[0])))
