"""``edif bench sweep``: layers × positions patching of the demo model as one sweep, against cell by cell.

Runs against the installation that is up.  In each round, in turns: the sweep of all cells, the sweep of the cells that
can differ (before the first token in which clean and corrupt prompt differ, patching changes nothing, exactly), some
cells as one remote request each, and some as a plain local loop.  Figures are medians; one torch thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections import defaultdict
from typing import Any

import torch
from _key import new_key
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
from rich.console import Console
from rich.table import Table

import edif
from edif.remote import EdifBackend
from edif_backend.models.catalogue import DEMO_ID, Catalogue
from edif_backend.models.snapshots import prepare
from edif_protocol.installation import Installation

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"
ROUNDS, SAMPLE = 5, 12


class Patching:
    """Residual patching of one pair of prompts."""

    def __init__(self, remote: TransformersModel, local: TransformersModel) -> None:
        self.remote, self.local = remote, local
        clean, corrupt = (local.tokenizer(text).input_ids for text in (CLEAN, CORRUPT))
        self.same = next(place for place, (a, b) in enumerate(zip(clean, corrupt, strict=True)) if a != b)
        self.positions = len(clean)
        self.layers = len(local.model.layers)
        self.mary, self.john = (local.tokenizer(name).input_ids[0] for name in (" Mary", " John"))

    def cells(self, first: int = 0) -> list[tuple[int, int]]:
        """All cells from position ``first`` on."""
        return [(layer, place) for layer in range(self.layers) for place in range(first, self.positions)]

    def sweep(self, cells: list[tuple[int, int]]) -> edif.SweepResult:
        """All in one job."""
        mary, john = self.mary, self.john

        def states(model: Any) -> list[torch.Tensor]:
            with model.trace(CLEAN):
                found = [layer.output for layer in model.model.layers]
            return found  # noqa: RET504 - what a trace assigns is there after it

        def edit(model: Any, batch: edif.Batch) -> None:
            hidden = model.model.layers[batch.layer].output
            for rows, cell in batch:
                hidden[rows, batch.at(cell.position)] = batch.given[cell.layer][:, cell.position]

        def measure(model: Any, batch: edif.Batch) -> torch.Tensor:
            logits = model.lm_head.output[:, -1]
            return logits[:, mary] - logits[:, john]

        return edif.sweep(self.remote, CORRUPT, cells, edit, measure, prepare=states, progress=False)

    def cell(self, model: TransformersModel, layer: int, position: int, state: torch.Tensor, backend: Any) -> float:
        """One cell in one trace, the clean hidden state being known."""
        with model.trace(CORRUPT, backend=backend):
            model.model.layers[layer].output[:, position] = state
            logits = model.lm_head.output[0, -1].save()
        return float(logits[self.mary] - logits[self.john])


def measure(patching: Patching, key: str) -> dict[str, Any]:
    """Figures of all rounds."""
    remote, local = patching.remote, patching.local
    with local.trace(CLEAN):
        states = [layer.output for layer in local.model.layers].save()
    choose = random.Random(0)
    taken: dict[str, list[float]] = defaultdict(list)
    for turn in range(ROUNDS + 1):
        for name, cells in {"sweep_all": patching.cells(), "sweep_changed": patching.cells(patching.same)}.items():
            began = time.perf_counter()
            found = patching.sweep(cells)
            if turn:
                taken[name].append(time.perf_counter() - began)
        known = dict(zip(cells, found.values[:, 0], strict=True))
        for layer, position in choose.sample(patching.cells(patching.same), SAMPLE):
            backend = EdifBackend(remote.to_model_key(), env=remote._remoteable_get_env(), api_key=key)
            for name, model, sent in (("remote_cell", remote, backend), ("local_cell", local, None)):
                began = time.perf_counter()
                value = patching.cell(model, layer, position, states[layer][:, position], sent)
                if turn:
                    taken[name].append(time.perf_counter() - began)
                assert abs(value - known[layer, position]) < 1e-3, (name, layer, position)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    cells = patching.layers * patching.positions
    loops = {kind: medians[f"{kind}_cell"] * cells for kind in ("remote", "local")}
    return {
        "cells": cells,
        "changed_cells": len(patching.cells(patching.same)),
        **{f"{name}_s": round(value, 3) for name, value in medians.items()},
        **{f"{kind}_loop_s": round(value, 1) for kind, value in loops.items()},
        **{
            f"{kind}_loop_over_{sweep}": round(loops[kind] / medians[sweep], 1)
            for kind in loops
            for sweep in ("sweep_all", "sweep_changed")
        },
    }


def main() -> None:
    """Measure and print a table, or one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    installation = Installation()
    key = new_key()
    CONFIG.API.HOST, CONFIG.API.APIKEY = installation.url("gateway"), key
    CONFIG.APP.REMOTE_LOGGING = False
    torch.set_num_threads(1)
    entry = Catalogue.load(installation.models_file).find(DEMO_ID)
    snapshot = prepare(entry, installation.models_dir, lambda line: print(line, file=sys.stderr))
    local = TransformersModel(str(snapshot.folder), task=entry.task, dispatch=True)
    figures = measure(Patching(TransformersModel(DEMO_ID, task=entry.task), local), key)
    if as_json:
        print(json.dumps({"benchmark": "sweep", "cores": os.cpu_count(), "rounds": ROUNDS, **figures}))
        return
    table = Table("Medians", "")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
