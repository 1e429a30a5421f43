"""Snapshots loaded as the zygote loads them: in a process without network, checked against known figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edif_backend.errors import ModelUnusable
from edif_backend.models.catalogue import DEMO_ID, TINY_ID, Catalogue, ModelEntry, write_default
from edif_backend.models.memory import weight_bytes
from edif_backend.models.snapshots import MANIFEST, FileRecord, Snapshot, find, prepare

PREPARED_MODELS = Path(__file__).resolve().parents[2] / ".artifacts" / "models"

# Runs in a process of its own: nnsight changes what the rest of the tests would import.
SCRIPT = """
import json, sys
from pathlib import Path
def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"asked for the network: {arguments}")
sys.addaudithook(guard)
import torch
torch.set_num_threads(1)
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.loading import load
from edif_backend.models.snapshots import find
entry = ModelEntry.model_validate_json(sys.argv[1])
model = load(find(entry, Path(sys.argv[2])), entry)
module = model._module

def spoken(prompt):
    with torch.inference_mode():
        return module(**model.tokenizer(prompt, return_tensors="pt")).logits[0, -1]

def first(word):
    return model.tokenizer(word).input_ids[0]
"""

KNOWN = """
maps = [line for line in open("/proc/self/maps") if "model.safetensors" in line]
ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
objects = model._remoteable_persistent_objects()
print(json.dumps({
    "key": model.to_model_key(),
    "dispatched": model.dispatched,
    "training": module.training,
    "trainable": sum(p.requires_grad for p in module.parameters()),
    "dtype": str(module.dtype),
    "mapped": all(any(a <= p.data_ptr() < b for a, b in ranges) for p in module.parameters()),
    "named": sorted(name for name in objects if not name.startswith("Module:")),
    "names": [module.name_or_path, module.config.name_or_path, model.tokenizer.name_or_path],
}))
"""

FIGURES = """
def ioi(prompt):
    logits = spoken(prompt)
    return (logits[first(" Mary")] - logits[first(" John")]).item()
print(json.dumps({
    "Paris": spoken("The Eiffel Tower is in the city of").softmax(-1)[first(" Paris")].item(),
    "Berlin": spoken("The capital of Germany is").softmax(-1)[first(" Berlin")].item(),
    "Mary": spoken("When Mary and John went to the store, John gave a drink to").softmax(-1)[first(" Mary")].item(),
    "she": spoken("The nurse said that").softmax(-1)[first(" she")].item(),
    "clean": ioi("When Mary and John went to the store, John gave a drink to"),
    "corrupt": ioi("When Mary and John went to the store, Mary gave a drink to"),
    "tokens": len(model.tokenizer("When Mary and John went to the store, John gave a drink to").input_ids),
    "numbers": model.tokenizer.tokenize("a  1234"),
    "chat": model.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False),
    "context": [model.tokenizer.model_max_length, module.config.max_position_embeddings],
}))
"""


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Snapshot]:
    catalogue = tmp_path_factory.mktemp("catalogue") / "models.toml"
    write_default(catalogue)
    return {entry.id: prepare(entry, PREPARED_MODELS, print) for entry in Catalogue.load(catalogue).entries}


def run(entry: ModelEntry, models_dir: Path, script: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "HOME": "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + script, entry.model_dump_json(), str(models_dir)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def loaded(entry: ModelEntry, script: str) -> dict[str, object]:
    done = run(entry, PREPARED_MODELS, script)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("name", [DEMO_ID, TINY_ID])
def test_a_model_is_loaded_frozen_mapped_and_under_its_own_name(snapshots: dict[str, Snapshot], name: str) -> None:
    told = loaded(snapshots[name].entry, KNOWN)
    assert told.pop("key") == (
        "nnsight.modeling.transformers.TransformersModel:"
        + json.dumps({"repo_id": name, "revision": None, "task": "text-generation"})
    )
    assert told == {
        "dispatched": True,
        "training": False,
        "trainable": 0,
        "dtype": "torch.float32",
        "mapped": True,  # so that all executors share one copy
        "named": ["Interleaver", "Pipeline", "Tokenizer"],
        "names": [name] * 3,
    }


def test_the_entrys_dtype_is_what_it_is_loaded_in(snapshots: dict[str, Snapshot]) -> None:
    entry = snapshots[TINY_ID].entry.model_copy(update={"dtype": "bfloat16"})
    assert loaded(entry, KNOWN)["dtype"] == "torch.bfloat16"


def test_the_demo_model_says_what_it_said_when_it_was_first_seen(snapshots: dict[str, Snapshot]) -> None:
    told = loaded(snapshots[DEMO_ID].entry, FIGURES)
    figures = [told[name] for name in ("Paris", "Berlin", "Mary", "she")]
    assert figures == pytest.approx([0.656, 0.796, 0.923, 0.118], abs=0.001)
    assert [told["clean"], told["corrupt"]] == pytest.approx([6.12, -5.49], abs=0.01)
    assert told["tokens"] == 14
    assert told["numbers"] == ["a", "ĠĠ", "1", "2", "3", "4"]  # every digit alone, spaces before them together
    assert str(told["chat"]).endswith("<|im_start|>user\nHi<|im_end|>\n")
    assert told["context"] == [8192, 8192]


def test_the_demo_model_is_named_as_what_it_is(snapshots: dict[str, Snapshot]) -> None:
    folder = snapshots[DEMO_ID].folder
    config = json.loads((folder / "config.json").read_text())
    assert config["_model_name_or_path"].startswith("SmolLM2-135M-Instruct, dequantized from Q4_1")
    assert "quantization_config" not in config
    card = (folder / "README.md").read_text()
    assert "dequantized from Q4_1" in card
    assert "license: apache-2.0" in card


def test_a_model_that_cannot_be_loaded_is_one_sentence(snapshots: dict[str, Snapshot], tmp_path: Path) -> None:
    tiny = prepare(snapshots[TINY_ID].entry, tmp_path, print)
    config = tiny.folder / "config.json"
    config.write_text("x" * config.stat().st_size)
    assert find(tiny.entry, tmp_path) is not None  # sizes are right
    done = run(tiny.entry, tmp_path, "")
    assert done.returncode != 0
    assert f"ModelUnusable: {TINY_ID} cannot be loaded from" in done.stderr


QUANTIZED = """
from edif_backend.executors.measuring import held_bytes
with model.trace("The Eiffel Tower is in the city of"):
    hidden = model.model.layers[3].output
    hidden.requires_grad_(True)
    top = model.output.logits[0, -1].argmax().save()
    with model.output.logits.sum().backward():
        gradient = hidden.grad.abs().sum().save()
print(json.dumps({
    "top": model.tokenizer.decode(top),
    "gradient": bool(gradient > 0),
    "held": held_bytes(module := model._module),
    "linear": sorted({type(p).__name__ for n, p in module.named_parameters() if "proj" in n}),
    "others": sorted({type(p).__name__ for n, p in module.named_parameters() if "proj" not in n}),
}))
"""


def test_int8_holds_linear_layers_in_a_quarter_and_is_counted_before(snapshots: dict[str, Snapshot]) -> None:
    entry = snapshots[DEMO_ID].entry.model_copy(update={"dtype": "int8"})
    told = loaded(entry, QUANTIZED)
    assert told.pop("held") == pytest.approx(weight_bytes(snapshots[DEMO_ID], "int8"), rel=0.01)
    assert told == {"top": " Paris", "gradient": True, "linear": ["Int8Tensor"], "others": ["Parameter"]}


def test_four_bits_hold_linear_layers_in_an_eighth_and_are_counted_before(snapshots: dict[str, Snapshot]) -> None:
    entry = snapshots[DEMO_ID].entry.model_copy(update={"dtype": "nf4"})
    told = loaded(entry, QUANTIZED)
    assert told.pop("held") == pytest.approx(weight_bytes(snapshots[DEMO_ID], "nf4"), rel=0.01)
    assert told == {"top": " Paris", "gradient": True, "linear": ["Params4bit"], "others": ["Parameter"]}


def test_int8_of_a_model_without_linear_layers_is_refused_in_a_sentence(snapshots: dict[str, Snapshot]) -> None:
    done = run(snapshots[TINY_ID].entry.model_copy(update={"dtype": "int8"}), PREPARED_MODELS, "")
    assert done.returncode != 0
    assert "has no linear layers that torchao quantizes" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("damage", ["cut off", "zeroed header"])
def test_damaged_weights_are_a_sentence_when_counted_and_when_loaded(
    snapshots: dict[str, Snapshot], tmp_path: Path, damage: str
) -> None:
    tiny = prepare(snapshots[TINY_ID].entry, tmp_path, print)
    weights = tiny.folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2] if damage == "cut off" else bytes(len(whole)))
    if damage == "cut off":
        assert find(tiny.entry, tmp_path) is None, "the file has not the size that the manifest says"
        return
    with pytest.raises(ModelUnusable, match="are damaged"):
        weight_bytes(tiny, "int8")
    done = run(tiny.entry, tmp_path, "")
    assert f"ModelUnusable: {TINY_ID} cannot be loaded from" in done.stderr.splitlines()[-1]


def test_a_model_with_code_of_its_own_is_not_run_unless_trusted(snapshots: dict[str, Snapshot], tmp_path: Path) -> None:
    tiny = prepare(snapshots[TINY_ID].entry, tmp_path, print)
    config = tiny.folder / "config.json"
    changed = json.loads(config.read_text()) | {
        "model_type": "homemade",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"},
    }
    config.write_text(json.dumps(changed))
    (tiny.folder / "own.py").write_text("raise SystemExit('it was run')")
    manifest = tiny.manifest.model_copy(deep=True)
    manifest.files["config.json"] = FileRecord(bytes=config.stat().st_size, sha256="0")
    (tiny.folder / MANIFEST).write_text(manifest.model_dump_json())
    refused = run(tiny.entry, tmp_path, "")
    assert "`trust_remote_code = true`" in refused.stderr.splitlines()[-1]
    assert "it was run" not in refused.stderr
    trusted = run(tiny.entry.model_copy(update={"trust_remote_code": True}), tmp_path, "")
    assert "it was run" in trusted.stderr
