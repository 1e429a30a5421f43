"""``edif bench gpu``: what a jailed job on a GPU costs beside the same trace in this process, by size of the model.

Needs an NVIDIA GPU, bubblewrap, and no running workbench, no Ray.  Models are Llamas with random weights in bfloat16,
made here (``--dtype nf4``: held in four bits).  In turns: ``local`` is the trace in this process, ``warm`` a job on an
executor kept for its user, ``fresh`` one that was ready.  ``check`` is what the keeper takes to look at all weights.
Figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from edif_backend.executors.pool import ExecutorPool, Limits, Work
from edif_backend.executors.weights_keeper import digest
from edif_backend.models.catalogue import FOUR_BIT, Dtype, ModelEntry
from edif_backend.models.quantized import four_bits
from edif_backend.models.snapshots import MANIFEST, RECIPE, FileRecord, Manifest
from edif_backend.models.tiny_gpt2 import make_tokenizer

ROUNDS = 15
PROMPT = "The Eiffel Tower is in the city of"
#: Width, layers, heads, key and value heads, width of the MLP: TinyLlama's, Llama 3's of 8B.
SIZES = {"1B": (2048, 22, 32, 4, 5632), "8B": (4096, 32, 32, 8, 14336)}


def write_model(folder: Path, id: str, size: str, dtype: Dtype) -> ModelEntry:
    """A Llama with random weights, as a snapshot, to be served in ``dtype``."""
    width, layers, heads, kv_heads, mlp = SIZES[size]
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=128_256 if size == "8B" else 32_000, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, intermediate_size=mlp, max_position_embeddings=4096,
        torch_dtype="bfloat16", architectures=["LlamaForCausalLM"], tie_word_embeddings=False,
    )  # fmt: skip
    target = folder / id.replace("/", "--")
    target.mkdir(parents=True)
    config.save_pretrained(target)
    tokenizer.save_pretrained(target)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    torch.manual_seed(0)
    weight_map, shard, held, number = {}, {}, 0, 0
    names = [(name, tensor.shape) for name, tensor in skeleton.state_dict().items()]
    for name, shape in names:
        shard[name] = (torch.randn(shape, device="cuda") * 0.02).to(torch.bfloat16).cpu()
        if name.endswith("norm.weight"):
            shard[name] = torch.ones(shape, dtype=torch.bfloat16)
        held += shard[name].nbytes
        if held > 3 << 30 or name == names[-1][0]:
            number += 1
            file = f"model-{number:05}.safetensors"
            save_file(shard, target / file, metadata={"format": "pt"})
            weight_map.update(dict.fromkeys(shard, file))
            shard, held = {}, 0
    (target / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    files = {f.name: FileRecord(bytes=f.stat().st_size, sha256="") for f in target.iterdir()}
    manifest = Manifest(
        id=id, source="tiny", repo=id, revision="main", recipe=RECIPE, commit="0" * 40, parameters={}, files=files
    )
    (target / MANIFEST).write_text(manifest.model_dump_json())
    for written in target.iterdir():
        written.chmod(0o644)  # safetensors writes for the owner alone, and an executor is somebody else
    return ModelEntry(id=id, title=size, source="tiny", repo=id, dtype=dtype)


class _Payload:
    data = b""

    def __call__(self, tracer: Any) -> None:
        self.data = RequestModel.serialize(tracer, compress=True)


class _Nowhere:
    async def write(self, data: bytes) -> None:
        """Drop it."""


def trace(model: TransformersModel, backend: _Payload | None = None) -> None:
    """One prompt, one hidden state saved."""
    with model.trace(PROMPT, backend=backend):
        hidden = model.lm_head.input.save()  # noqa: F841 - as a user would
    if backend is None:
        torch.cuda.synchronize()


def check_ms(size_bytes: int) -> list[float]:
    """What a look at so many bytes of weights takes, four times."""
    block = torch.empty(size_bytes // 8 * 8, dtype=torch.uint8, device="cuda")
    keys = torch.randint(0, 1 << 62, (8 << 20,), device="cuda") | 1
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        digest(block, keys)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


async def job_s(pool: ExecutorPool, payload: bytes, user: str) -> tuple[float, float]:
    """One job: until its result is here, and in the executor, in seconds."""
    began = time.perf_counter()
    done = await pool.run(
        Work(
            user=user,
            compress=True,
            env={},
            payload=payload,
            sink=_Nowhere(),
            keeper=_Nowhere(),
            time_limit_s=60,
        )
    )
    taken = time.perf_counter() - began
    await pool.judged()
    return taken, done.seconds["run"]


async def turns(pool: ExecutorPool, local: TransformersModel) -> dict[str, list[float]]:
    """The trace here, on a warm executor and now and then on a fresh one, in milliseconds."""
    payload, taken = _Payload(), defaultdict[str, list[float]](list)
    trace(local, payload)
    await job_s(pool, payload.data, "warm")
    for turn in range(ROUNDS):
        began = time.perf_counter()
        trace(local)
        taken["local_ms"].append((time.perf_counter() - began) * 1000)
        whole, run = await job_s(pool, payload.data, "warm")
        taken["warm_ms"].append(whole * 1000)
        taken["warm_run_ms"].append(run * 1000)
        if turn % 3 == 0:
            await asyncio.sleep(3)
            taken["fresh_ms"].append((await job_s(pool, payload.data, f"fresh {turn}"))[0] * 1000)
    return taken


async def measure(size: str, dtype: Dtype, folder: Path) -> dict[str, float]:
    """All figures of one size."""
    id, figures = f"edif/random-llama-{size.lower()}", {}
    began = time.perf_counter()
    entry = write_model(folder, id, size, dtype)
    figures["written_s"] = time.perf_counter() - began
    place = folder / id.replace("/", "--")
    limits = Limits(1 << 30, 8 << 30, 1 << 28, 1)
    pool = ExecutorPool(entry.model_dump(mode="json"), place, limits, ready=2, parts=[("cuda:0", 1 << 40)])
    began = time.perf_counter()
    await pool.start(lambda line: print(f"{time.perf_counter() - began:6.1f} s  {line}", flush=True))
    figures["start_s"] = time.perf_counter() - began
    given: dict[str, Any] = {"dispatch": True, "device_map": "cuda:0", "dtype": torch.bfloat16}
    if dtype in FOUR_BIT:
        given = {**given, **four_bits(dtype), "device_map": "cuda:0"}
    local = TransformersModel(str(place), task=entry.task, **given)
    figures["weights_gb"] = sum(p.nbytes for p in local._module.parameters()) / 1e9
    try:
        taken = await turns(pool, local)
    finally:
        await pool.stop()
    taken["check_ms"] = check_ms(int(figures["weights_gb"] * 1e9))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return {name: round(value, 2) for name, value in {**figures, **medians}.items()}


def main() -> None:
    """Measure each size and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", default=["1B"], choices=[*SIZES])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", *FOUR_BIT])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = {}
    for size in options.sizes:
        folder = Path(tempfile.mkdtemp(prefix="edif-gpu-"))
        folder.chmod(0o755)
        try:
            figures[size] = asyncio.run(measure(size, options.dtype, folder))
        finally:
            shutil.rmtree(folder)
    device = torch.cuda.get_device_name(0)
    print(json.dumps({"benchmark": "gpu", "device": device, "dtype": options.dtype, "sizes": figures}, indent=1))


if __name__ == "__main__":
    main()
