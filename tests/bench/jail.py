"""``edif bench jail``: what the inner walls cost a fork, and what a ready executor holds of its own.

Runs without the installation: a process of its own forks behind the walls (``walled``) and without Landlock, seccomp
and the dropping of rights (``plain``), in turns.  Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edif_backend.executors import capabilities, jail, walls

ROUNDS = 60
_MEMORY_BYTES, _TMP_BYTES = 1 << 30, 1 << 20


def fork_ms(shown: list[str], hardened: bool) -> tuple[float, float]:
    """One executor's way behind the walls and its end: all of it, and the last wall alone, in milliseconds."""
    answer_out, answer_in = os.pipe()
    began = time.perf_counter()
    middle = os.fork()
    if middle == 0:
        walls.leave_namespaces()
        executor = os.fork()
        if executor == 0:
            walls.limit(_MEMORY_BYTES)
            walls.cover(_TMP_BYTES, shown)
            before = time.perf_counter()
            if hardened:
                walls.harden()
            os.write(answer_in, str((time.perf_counter() - before) * 1000).encode())
            os._exit(0)
        os.waitpid(executor, 0)
        os._exit(0)
    os.waitpid(middle, 0)
    whole = (time.perf_counter() - began) * 1000
    os.close(answer_in)
    with os.fdopen(answer_out, "rb") as file:
        return whole, float(file.read())


def inside() -> None:
    """Measure, in the jail."""
    capabilities.give_up_root()
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for name, hardened in (("plain", False), ("walled", True)):
            whole, last = fork_ms(sys.argv[2:], hardened)
            taken[f"{name}_ms"].append(whole)
            if hardened:
                taken["last_wall_ms"].append(last)
    print(json.dumps({name: round(statistics.median(values), 2) for name, values in taken.items()}))


def main() -> None:
    """Close this script in, show what it says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    script = Path(__file__).resolve()
    folder = str(script.parent)
    shown = [str(path) for path in jail.readable([])]
    line = jail.command([str(script), "inside", *shown], folders=[], environment={})
    separator = line.index("--")
    line[separator:separator] = ["--perms", "0755", "--dir", folder, "--ro-bind", folder, folder]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip())
    figures = {"layers": str(jail.trial()), "rounds": ROUNDS, **json.loads(done.stdout)}
    figures["walls_add_ms"] = round(figures["walled_ms"] - figures["plain_ms"], 2)
    if as_json:
        print(json.dumps({"benchmark": "jail", "cores": os.cpu_count(), **figures}))
        return
    table = Table("Medians", "")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        inside()
    else:
        main()
