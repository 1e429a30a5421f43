"""``edif bench fidelity``: what fewer bits, and a model in parts, do to the results of interpretability methods.

One model of the catalogue in float32 is the reference; the same weights in bfloat16 and in int8 (as the workbench loads
them), and in float32 spread over simulated devices, are compared with it by ``edif.agreement``: logit lens, patching
map, causal trace.  Prompts are the unit: figures are means over them, with a bootstrap interval.  Needs no running
workbench.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edif
from edif.engine.decoder import layers_of
from edif.intervals import bootstrap
from edif.result import Result
from edif_backend.executors import mixing
from edif_backend.models import layers
from edif_backend.models.catalogue import DEMO_ID, Catalogue, ModelEntry
from edif_backend.models.loading import load, pieces_of
from edif_backend.models.snapshots import Snapshot, prepare
from edif_protocol.installation import Installation
from simulated_devices import SimulatedDevices

PARTS = "2 parts"
NAMES = [("Mary", "John"), ("Anna", "Tom"), ("Sarah", "Paul"), ("Kate", "David")]
TEMPLATES = ["When {} and {} went to the store, {} gave a drink to", "After {} and {} had lunch, {} handed a book to"]
CAPITALS = {
    "Germany": "Berlin",
    "France": "Paris",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Spain": "Madrid",
    "China": "Beijing",
    "Greece": "Athens",
    "Russia": "Moscow",
    "Poland": "Warsaw",
    "Austria": "Vienna",
}
TEXTS = [
    "The Eiffel Tower is in the city of",
    "Water boils at a temperature of",
    "The author of Hamlet is William",
    "She opened the window because the room was",
    "Two plus two equals",
    "In the morning the farmer went out to milk his",
    "The opposite of hot is",
    "My favourite season is winter, because I like the",
]
#: What is said of two maps, as ``edif.agreement`` calls it, and in words.
MEASURES = {
    "correlation": "r",
    "rank_correlation": "rank correlation",
    "top_overlap": "top-10 overlap",
    "largest_difference": "largest difference",
}


@dataclass(frozen=True)
class Said:
    """What one variant says: a result for each prompt and method, and the next token's log-probabilities."""

    results: dict[str, list[Result]]
    next_tokens: list[torch.Tensor]
    level: float  #: standard deviation of the causal traces' noise


def asked(model: Any, stride: int, quick: bool, level: float | None) -> Said:
    """Every method on every prompt, each a result of its own; ``level`` makes the noise that of the reference."""
    rows = range(0, len(layers_of(model)), stride)
    some = slice(2 if quick else None)
    pairs = [(template, a, b) for template in TEMPLATES for a, b in NAMES][some]
    lenses: list[Result] = [
        edif.logit_lens(model, text, stride=stride, top=1, progress=False, remote=False) for text in TEXTS[some]
    ]
    maps: list[Result] = [
        edif.activation_patching(
            model,
            template.format(a, b, b),
            template.format(a, b, a),
            (f" {a}", f" {b}"),
            layers=rows,
            progress=False,
            remote=False,
        )
        for template, a, b in pairs
    ]
    traces: list[Result] = []
    for country, capital in list(CAPITALS.items())[some]:
        found = edif.causal_trace(
            model,
            f"The capital of {country} is",
            country,
            answer=f" {capital}",
            kinds="state",
            layers=rows,
            samples=4,
            level=level,
            progress=False,
            remote=False,
        )
        level = float(found.provenance["level"])
        traces.append(found)
    assert level is not None
    return Said({"lens": lenses, "patching map": maps, "causal trace": traces}, next_tokens(model, TEXTS[some]), level)


def next_tokens(model: Any, texts: Sequence[str]) -> list[torch.Tensor]:
    """Log-probabilities of what comes after each text."""
    found = []
    for text in texts:
        with model.trace(text):
            row = model.lm_head.output[0, -1].float().log_softmax(-1).cpu().save()
        found.append(row.detach())
    return found


def agreement(reference: Said, other: Said) -> dict[str, list[float]]:
    """Each measure of agreement with the reference: mean over prompts, and the ends of its 95 % interval."""
    values: dict[str, list[float]] = {}
    for one, two in zip(reference.next_tokens, other.next_tokens, strict=True):
        kl = float((one.exp() * (one - two)).sum())
        values.setdefault("next token: KL in nats", []).append(kl)
        values.setdefault("next token: the same on top", []).append(float(one.argmax() == two.argmax()))
    for method, results in reference.results.items():
        for mine, theirs in zip(results, other.results[method], strict=True):
            found = edif.agreement(mine, theirs)
            row = found.loc["kl" if method == "lens" else found.index[0]]
            for measure, words in MEASURES.items():
                values.setdefault(f"{method}: {words}", []).append(float(row.loc[measure]))
    return {name: [float(figure) for figure in bootstrap(each)] for name, each in values.items()}


@contextmanager
def variant(name: str, snapshot: Snapshot, entry: ModelEntry) -> Iterator[Any]:
    """The model as the workbench loads it in this dtype; ``2 parts``: its layers as they would lie on two GPUs."""
    if name != PARTS:
        yield load(snapshot, entry.model_copy(update={"dtype": name}))
        return
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # other threads would not be in the simulation
    pieces = pieces_of(load(snapshot, entry)._module)
    with SimulatedDevices():
        model = load(snapshot, entry, layers.evenly(pieces, ["cpu:1", "cpu:2"]))
        with mixing.operands_moved(model._module, lambda line: None):
            yield model


def figures(id: str, variants: Sequence[str], stride: int, quick: bool) -> dict[str, Any]:
    """Agreement of each variant with float32."""
    installation = Installation()
    entry = Catalogue.load(installation.models_file).find(id).model_copy(update={"dtype": "float32"})
    snapshot = prepare(entry, installation.models_dir, lambda line: print(line, file=sys.stderr))
    found: dict[str, Any] = {}
    with torch.no_grad():
        with variant("float32", snapshot, entry) as model:
            reference = asked(model, stride, quick, None)
        for name in variants:
            began = time.process_time()
            with variant(name, snapshot, entry) as model:
                found[name] = agreement(reference, asked(model, stride, quick, reference.level))
            print(f"{name}: {time.process_time() - began:.0f} s of CPU", file=sys.stderr)
    prompts = {method: len(results) for method, results in reference.results.items()}
    return {"model": id, "reference": "float32", "prompts": prompts, "layer_stride": stride, "variants": found}


def as_table(found: dict[str, Any]) -> Table:
    """The figures for people."""
    table = Table(f"{found['model']}, against float32", *found["variants"])
    for name in next(iter(found["variants"].values())):
        cells = [
            f"{mean:.4f} [{low:.4f}, {high:.4f}]" for mean, low, high in (v[name] for v in found["variants"].values())
        ]
        table.add_row(name, *cells)
    return table


def main() -> None:
    """Print the table, or one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=DEMO_ID, help="one of the catalogue")
    parser.add_argument("--variants", default=f"bfloat16,int8,nf4,{PARTS}", help="with commas between")
    parser.add_argument("--stride", type=int, default=3, help="every how many layers")
    parser.add_argument("--quick", action="store_true", help="two prompts each: a look, no finding")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    found = figures(wanted.model, wanted.variants.split(","), wanted.stride, wanted.quick)
    if wanted.json:
        print(json.dumps({"benchmark": "fidelity", **found}))
    else:
        Console(width=160).print(as_table(found))


if __name__ == "__main__":
    main()
