"""The cells of a patching map, and the way back from their values to arrays with named axes.

Used by :mod:`edif.patching` and :mod:`edif.path_patching`; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from edif import asked, beside, outputs
from edif.engine.decoder import HEADED, SITES, Paths
from edif.engine.metrics import METRICS
from edif.engine.patches import Pair
from edif.engine.sweeps import Cell
from edif.pairs import Prompts
from edif.result import provenance, token_axes


class Map:
    """The cells of all pairs and directions, and the way back from values to arrays."""

    def __init__(
        self,
        model: Any,
        pairs: list[Prompts],
        sites: list[str],
        ways: list[str],
        layers: Sequence[int] | None,
        positions: Sequence[int] | str | None,
        path: Paths,
        reaches: Callable[[Cell, Pair], bool] = lambda cell, run: True,
    ) -> None:
        self._reaches = reaches
        self._parts = head_counts(model, sites)
        self._pairs, self._sites, self._ways = pairs, [site for site in SITES if site in sites], ways
        self._layers = asked.layers(model, layers, path)
        self._together = positions == "together"
        self.runs: list[Pair] = []
        self.cells: list[list[Cell]] = []
        self._same: list[list[tuple[Cell, bool]]] = []
        for pair in pairs:
            for way in ways:
                run = pair.run(way)
                some = None if positions is None or isinstance(positions, str) else positions
                self._add(run, None if some is None else set(asked.numbers("position", some, len(run.ids))))
        asked.check_cells(sum(map(len, self.cells)), self._layers)

    def _add(self, run: Pair, chosen: set[int] | None) -> None:
        first = next((p for p, (a, b) in enumerate(zip(run.ids, run.source, strict=False)) if a != b), len(run.ids))
        places = sorted(p for p in run.positions if chosen is None or p in chosen)
        if self._together:
            places = places[:1]
        equal = set() if self._together else {p for p in places if p < first and run.positions[p] == p}
        cells = [
            (cell := Cell(layer, place, site, head), place in equal or not self._reaches(cell, run))
            for site in self._sites
            for layer in self._layers
            for place in places
            for head in (range(self._parts[site]) if self._parts[site] else (None,))
        ]
        self.runs.append(run)
        self._same.append(cells)
        self.cells.append([cell for cell, same in cells if not same])

    def known(self, told: beside.Telling, metrics: int, sweeps: int = 1) -> dict[str, Any] | None:
        """What comes back of a job, as far as it was told of by now; not-a-number where nothing is known yet.

        Args:
            metrics: how many each cell has.
            sweeps: of each run; values are those of the last one.
        """
        if not told.rows:
            return None
        found: dict[str, Any] = {"values": [], "changed": [], "source": []}
        before = 0
        for number, cells in enumerate(self.cells):
            before += (sweeps - 1) * len(cells)
            values = told.values(before, len(cells), (1, metrics)).reshape(len(cells), metrics)
            found["values"].append(torch.from_numpy(values))
            for name in ("changed", "source"):
                nothing = torch.full((metrics,), torch.nan, dtype=torch.float64)
                found[name].append(told.bases.get(number, {}).get(name, nothing))
            before += len(cells)
        return found

    def arrays(
        self, model: Any, found: dict[str, Any], metric: Callable[..., Any] | None, **known: Any
    ) -> tuple[xr.Dataset, dict[str, Any]]:
        """Data and provenance of a result; ``known`` is what else its provenance says."""
        names = [*METRICS, *([getattr(metric, "__name__", "own")] if metric is not None else [])]
        pairs, ways = len(self._pairs), len(self._ways)
        length = 1 if self._together else max(len(run.ids) for run in self.runs)
        shape = (pairs, ways, len(names), len(self._layers), length)
        arrays = {s: np.full((*shape, self._parts[s]) if self._parts[s] else shape, np.nan) for s in self._sites}
        bases = {name: np.full((pairs, ways, len(names)), np.nan) for name in ("clean", "corrupt")}
        tokens = np.full((pairs, ways, length), -1)
        for number, run in enumerate(self.runs):
            at = divmod(number, ways)
            changed, source = found["changed"][number].numpy(), found["source"][number].numpy()
            denoise = self._ways[at[1]] == "denoise"
            bases["clean"][at], bases["corrupt"][at] = (source, changed) if denoise else (changed, source)
            tokens[at][: len(run.ids)] = run.ids[:length]
            values = iter(found["values"][number].numpy() if len(self.cells[number]) else [])
            for cell, same in self._same[number]:
                value = changed if same else next(values)
                place = 0 if self._together else cell.position
                where = (*at, slice(None), self._layers.index(cell.layer), place)
                arrays[cell.site][where if cell.head is None else (*where, cell.head)] = value
        axes = ("pair", "direction", "metric", "layer", "position")
        heads = {s: "group" if s in ("k", "v") else "head" for s in self._sites}
        data = xr.Dataset(
            {
                **{s: ((*axes, heads[s]) if self._parts[s] else axes, arrays[s]) for s in self._sites},
                **{name: (("pair", "direction", "metric"), value) for name, value in bases.items()},
            },
            {
                "direction": self._ways,
                "metric": names,
                "layer": self._layers,
                **token_axes(model.tokenizer, tokens, ("pair", "direction", "position")),
            },
        )
        facts = [pair.facts(model.tokenizer) for pair in self._pairs]
        if "facts" in found:  # of a job that is not done much is not known yet
            cells = [value.numpy() for value in found["values"] if len(value)]
            known["notes"] = outputs.not_finite(names, [*map(np.asarray, found["changed"] + found["source"])], cells)
        more = {"positions": "together"} if self._together else {}
        formula = "(x − corrupt) / (clean − corrupt)"
        return data, provenance(model, found, pairs=facts, normalised=formula, **more, **known)


def head_counts(model: Any, sites: Sequence[str]) -> dict[str, int]:
    """How many heads (or groups of heads) each site has; 0 for those that have none."""
    config = model._module.config.get_text_config()
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    return {site: (groups if site in ("k", "v") else heads) if site in HEADED else 0 for site in sites}
