"""GPT-2's weights where this machine has them, stand-ins where it has not, and what the published figures are taken of.

Used by tests/integration/test_gpt2_figures.py: the same functions measure the real model and the stand-in, so the suite
cannot rot on machines without the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from nnsight import TransformersModel
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import edif

#: Prompts with a place for a name, and the two names that are put there.
TEMPLATES = (
    ("When John and Mary went to the shops,{} gave the bag to", (" Mary", " John")),
    ("When Tom and James went to the park,{} gave the ball to", (" Tom", " James")),
    ("When Dan and Sid went to the shops,{} gave an apple to", (" Dan", " Sid")),
    ("After Martin and Amy went to the park,{} gave a drink to", (" Martin", " Amy")),
)
PAIR = "After John and Mary went to the store, {} gave a bottle of milk to"
NEEDLE, SUBJECT = "The Space Needle is in downtown", "The Space Needle"
_END = "<|endoftext|>"


def snapshot(name: str, cache: Path | None = None) -> Path | None:
    """The folder of a model's files in the Hugging Face cache (or in ``cache``); None where they are not all there."""
    for repo in (name, f"openai-community/{name}"):
        files = [try_to_load_from_cache(repo, file, cache_dir=cache) for file in ("config.json", "model.safetensors")]
        if all(isinstance(file, str) for file in files):
            return Path(str(files[0])).parent
    return None


def loaded(folder: Path) -> TransformersModel:
    """The model in a folder, as the figures are taken of it."""
    torch.set_num_threads(1)
    model = TransformersModel(str(folder), task="text-generation", dispatch=True, attn_implementation="eager")
    model._module.eval().requires_grad_(False)
    return model


def stand_in(name: str, cache: Path, layers: int) -> None:
    """A small GPT-2 with random weights, laid down where the Hugging Face cache would have ``name``."""
    words = sorted({part for text in _texts() for part in _parts(text)})
    table = Tokenizer(models.WordLevel({word: n for n, word in enumerate([_END, *words])}, unk_token=_END))
    table.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^\s,]+|,"), "isolated")
    table.decoder = decoders.Fuse()
    folder = cache / f"models--openai-community--{name}"
    files = folder / "snapshots" / ("0" * 40)
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    PreTrainedTokenizerFast(tokenizer_object=table, bos_token=_END, eos_token=_END, unk_token=_END).save_pretrained(
        files
    )
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(
        vocab_size=len(words) + 1, n_embd=48, n_layer=layers, n_head=12, n_positions=32, initializer_range=0.3, **ends
    )
    GPT2LMHeadModel(config).save_pretrained(files)


def _texts() -> list[str]:
    filled = [template.format(name) for template, names in TEMPLATES for name in names]
    return [*filled, PAIR.format("Mary"), PAIR.format("John"), NEEDLE, " Seattle"]


def _parts(text: str) -> list[str]:
    split = pre_tokenizers.Split(Regex(r" ?[^\s,]+|,"), "isolated")
    return [part for part, _ in split.pre_tokenize_str(text)]


# -- what is measured ----------------------------------------------------------


def pairs(model: TransformersModel, bos: bool) -> dict[str, Any]:
    """Eight prompts, each with its counterpart, in which the other name gives."""
    begin = [model.tokenizer.bos_token_id] if bos else []
    clean, corrupt, answers = [], [], []
    for template, names in TEMPLATES:
        for right, wrong in (names, names[::-1]):
            clean.append(begin + model.tokenizer(template.format(wrong)).input_ids)
            corrupt.append(begin + model.tokenizer(template.format(right)).input_ids)
            answers.append((right, wrong))
    return {"clean": clean, "corrupt": corrupt, "answer": answers}


def differences(model: TransformersModel, bos: bool) -> tuple[float, float]:
    """Mean logit difference of the eight clean prompts, and of the corrupt ones."""
    found = edif.activation_patching(model, **pairs(model, bos), layers=[11], positions=[-1], progress=False)
    clean, corrupt = (float(found.data[name].sel(metric="logit_difference").mean()) for name in ("clean", "corrupt"))
    return clean, corrupt


def one_pair(model: TransformersModel) -> tuple[float, float, Any]:
    """Logit differences of one pair, and the map of its residual stream (layer, position)."""
    found = edif.activation_patching(
        model, PAIR.format("Mary"), PAIR.format("John"), (" John", " Mary"), progress=False
    )
    clean, corrupt = (found.data[name].sel(metric="logit_difference").item() for name in ("clean", "corrupt"))
    return clean, corrupt, found.effect()[0]


def head_effects(model: TransformersModel) -> np.ndarray[Any, Any]:
    """The part of the eight prompts' difference that each head restores at all positions together, with BOS."""
    found = edif.activation_patching(model, **pairs(model, True), sites="head", positions="together", progress=False)
    raw = found.effect("head", normalised=False).mean("pair")[:, 0]
    clean, corrupt = (float(found.data[name].sel(metric="logit_difference").mean()) for name in ("clean", "corrupt"))
    return ((raw - corrupt) / (clean - corrupt)).values


def needle(model: TransformersModel) -> tuple[str, float, float, Any]:
    """What the model says of the Space Needle, how probable, with noise, and what layer 15 brings back, by position."""
    found = edif.causal_trace(model, NEEDLE, SUBJECT, kinds="state", layers=[15], progress=False)
    effect = found.indirect_effect("state")[0, 0].values
    answer = str(found.data["answer_token"].values[0])
    return answer, float(found.data["clean"][0]), float(found.data["corrupted"].mean()), effect
