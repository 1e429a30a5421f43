"""``edif bench memory``: what jobs need, foretold and measured; weights, counted and held.

Runs without the installation's services, in processes of its own, one thread each.  Models: the demo model and the
random one as they are served, and small random ones of several families.  For each, a profile is measured as a load
does, then jobs of other shapes are foretold by it and measured; the table gives the errors of the predictions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edif_protocol.installation import Installation

WIDTH = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4, "num_hidden_layers": 4}
POSITIONS = {"max_position_embeddings": 4096}
#: Class, configuration class and its arguments.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"vocab_size": 8000, "n_embd": 256, "n_layer": 4, "n_head": 4}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {"vocab_size": 8000, "num_key_value_heads": 2, **WIDTH, **POSITIONS}),
    "qwen3": (
        "Qwen3ForCausalLM",
        "Qwen3Config",
        {"vocab_size": 1000, "head_dim": 64, "num_key_value_heads": 4, **WIDTH, **POSITIONS},
    ),
    "gemma2": (
        "Gemma2ForCausalLM",
        "Gemma2Config",
        {"vocab_size": 1000, "head_dim": 64, "num_key_value_heads": 2, "sliding_window": 512, **WIDTH, **POSITIONS},
    ),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {"vocab_size": 8000, **WIDTH, **POSITIONS}),
}
SERVED = ("edif/tiny-gpt2", "edif/smollm2-135m-demo")
FORWARD = ((1, 8), (1, 24), (3, 48), (2, 100), (5, 90), (1, 400), (3, 600))
GENERATE = ((1, 10, 20), (1, 40, 30), (3, 100, 20), (2, 300, 20))
BACKWARD = ((1, 24), (1, 90), (3, 200), (1, 400))


def model_of(name: str, dtype: str) -> tuple[Any, int]:
    """The model, and the bytes of its weights as they are counted before it is loaded (0: not a served one)."""
    import torch
    import transformers

    from edif_backend.models.catalogue import Catalogue
    from edif_backend.models.loading import load
    from edif_backend.models.memory import weight_bytes
    from edif_backend.models.snapshots import find

    if name in FAMILIES:
        kind, config, arguments = FAMILIES[name]
        torch.manual_seed(0)
        model = getattr(transformers, kind)(getattr(transformers, config)(**arguments))
        return model.to(getattr(torch, dtype)).eval().requires_grad_(False), 0
    installation = Installation()
    entry = Catalogue.load(installation.models_file).entry(name).model_copy(update={"dtype": dtype})
    snapshot = find(entry, installation.models_dir)
    assert snapshot, f"{name} is not ready: `edif up` first"
    return load(snapshot, entry)._module, weight_bytes(snapshot, entry.dtype)


def inside(name: str, dtype: str) -> None:
    """Measure one model, in a process of its own."""
    import torch

    from edif_backend.executors import measuring

    torch.set_num_threads(1)
    model, counted = model_of(name, dtype)
    profile = measuring.measure(model, int(model.config.max_position_embeddings))
    assert profile
    jobs: list[tuple[str, tuple[int, ...], Callable[..., int], int]] = [
        *(("forward", shape, measuring.forward_bytes, profile.peak_bytes(*shape)) for shape in FORWARD),
        *(("generate", shape, generate_bytes, profile.peak_bytes(*shape)) for shape in GENERATE),
        *(
            ("backward", shape, measuring.backward_bytes, profile.peak_bytes(*shape, gradients=True))
            for shape in BACKWARD
        ),
    ]
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # torch's profiler talks
    rows = [(kind, shape, foretold / measure(model, *shape) - 1) for kind, shape, measure, foretold in jobs]
    figures: dict[str, Any] = {"model": name, "dtype": dtype, "measured_up_to_tokens": profile.forward[-1][0]}
    for kind in ("forward", "generate", "backward"):
        errors = [error for found, _, error in rows if found == kind]
        figures[kind] = [round(100 * min(errors), 2), round(100 * max(errors), 2)]
    held = measuring.held_bytes(model)
    figures["weights"] = round(100 * (counted / held - 1), 2) if counted else None
    os.write(answer, json.dumps(figures).encode())


def generate_bytes(model: Any, *shape: int) -> int:
    from edif_backend.executors import measuring

    return max(measuring.generate_bytes(model, *shape))


def measured(dtypes: list[str]) -> Iterator[dict[str, Any]]:
    for dtype in dtypes:
        for name in (*SERVED, *FAMILIES):
            if dtype == "int8" and name in ("edif/tiny-gpt2", *FAMILIES):
                continue
            done = subprocess.run(
                [sys.executable, "-W", "ignore", str(Path(__file__)), "inside", name, dtype],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            if done.returncode:
                sys.exit(f"{name} in {dtype}:\n{done.stderr[-2000:]}")
            yield json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dtypes", default="float32,bfloat16,int8")
    chosen = parser.parse_args()
    rows = list(measured(chosen.dtypes.split(",")))
    if chosen.json:
        print(json.dumps({"benchmark": "memory", "unit": "percent, lowest and highest", "rows": rows}))
        return
    table = Table("Model", "Type", "Forward %", "Generate %", "Backward %", "Weights %", "Measured up to")
    for row in rows:
        errors = [f"{row[kind][0]:+} … {row[kind][1]:+}" for kind in ("forward", "generate", "backward")]
        weights = "" if row["weights"] is None else f"{row['weights']:+}"
        table.add_row(row["model"], row["dtype"], *errors, weights, str(row["measured_up_to_tokens"]))
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        inside(*sys.argv[2:])
    else:
        main()
