"""Make ``edif/tiny-lora``: a random LoRA adapter of the random GPT-2, for tests, without any download.

Called by ``snapshots.prepare`` in the preparing process.  Its weights are the same bytes on every machine.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from edif_backend.models.catalogue import TINY_ID, ModelEntry
from edif_backend.models.snapshots import Say
from edif_backend.models.tiny_gpt2 import LAYERS, WIDTH, noise

RANK = 4
#: Matrices that are adapted, by the numbers that go in and come out.
ADAPTED = {"attn.c_attn": (WIDTH, 3 * WIDTH), "mlp.c_fc": (WIDTH, 4 * WIDTH)}


def build(entry: ModelEntry, folder: Path, say: Say) -> str | None:
    """Write the adapter into ``folder``; the snapshot's commit is the digest of the files."""
    say(f"{entry.id}: making random weights")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": TINY_ID,
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": True,  # GPT-2 holds its matrices the other way round
        "target_modules": [name.rpartition(".")[2] for name in ADAPTED],
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    weights = {}
    for layer in range(LAYERS):
        for name, (into, out) in ADAPTED.items():
            place = f"base_model.model.transformer.h.{layer}.{name}"
            weights[f"{place}.lora_A.weight"] = noise(f"{place}.A", (RANK, into))
            weights[f"{place}.lora_B.weight"] = noise(f"{place}.B", (out, RANK))
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return None
