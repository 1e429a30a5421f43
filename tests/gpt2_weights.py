"""GPT-2's weights where this machine has them, stand-ins where it has not, and what the published figures are taken of.

Used by tests/integration/test_gpt2_figures.py: the same functions measure the real model and the stand-in, so the suite
cannot rot on machines without the weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from nnsight import TransformersModel
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import edif
from edif.causal_trace import subject_span
from edif.engine.decoder import Decoder
from edif.engine.patches import Fact, spread
from edif.intervals import bootstrap

#: Prompts with a place for a name, and the two names that are put there.
TEMPLATES = (
    ("When John and Mary went to the shops,{} gave the bag to", (" Mary", " John")),
    ("When Tom and James went to the park,{} gave the ball to", (" Tom", " James")),
    ("When Dan and Sid went to the shops,{} gave an apple to", (" Dan", " Sid")),
    ("After Martin and Amy went to the park,{} gave a drink to", (" Martin", " Amy")),
)
PAIR = "After John and Mary went to the store, {} gave a bottle of milk to"
NEEDLE, SUBJECT = "The Space Needle is in downtown", "The Space Needle"
#: What the IOI paper's prompts are made of (Wang et al. 2022, appendix on templates): places of the two names that come
#: first, {}, and of the one who gives, [S]; and some of its names, places and things.
PAPER = (
    "Then,{} and{} went to the{place}.[S] gave a{thing} to",
    "Then,{} and{} had a lot of fun at the{place}.[S] gave a{thing} to",
    "Then,{} and{} were working at the{place}.[S] decided to give a{thing} to",
    "Then,{} and{} were thinking about going to the{place}.[S] wanted to give a{thing} to",
    "Then,{} and{} had a long argument, and afterwards[S] said to",
    "After{} and{} went to the{place},[S] gave a{thing} to",
    "When{} and{} got a{thing} at the{place},[S] decided to give it to",
    "When{} and{} got a{thing} at the{place},[S] decided to give the{thing} to",
    "While{} and{} were working at the{place},[S] gave a{thing} to",
    "While{} and{} were commuting to the{place},[S] gave a{thing} to",
    "After the lunch,{} and{} went to the{place}.[S] gave a{thing} to",
    "Afterwards,{} and{} went to the{place}.[S] gave a{thing} to",
    "Then,{} and{} had a long argument. Afterwards[S] said to",
    "The{place}{} and{} went to had a{thing}.[S] gave it to",
    "Friends{} and{} found a{thing} at the{place}.[S] gave it to",
)
NAMES = (
    *(" Michael", " Jessica", " Matthew", " Jennifer", " Daniel", " David", " James", " Robert", " John", " Joseph"),
    *(" Andrew", " Ryan", " Sarah", " William", " Elizabeth", " Thomas", " Rachel", " Laura", " Richard", " Mary"),
)
PLACES = (" store", " garden", " restaurant", " school", " hospital", " office", " house", " station")
THINGS = (" ring", " kiss", " bone", " basketball", " computer", " necklace", " drink", " snack")
#: How often each template is filled in each order of the names.
_FILLED = 4
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
    paper = [text for text, _, _ in paper_prompts()]
    return [*filled, *paper, *NAMES, PAIR.format("Mary"), PAIR.format("John"), NEEDLE, " Seattle"]


def _parts(text: str) -> list[str]:
    split = pre_tokenizers.Split(Regex(r" ?[^\s,]+|,"), "isolated")
    return [part for part, _ in split.pre_tokenize_str(text)]


def known_facts(cache: Path | None = None) -> list[dict[str, str]]:
    """The facts that the ROME paper averages over, where somebody has laid their file beside the models."""
    file = Path(cache or HF_HUB_CACHE) / "known_1000.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else []


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


def maps(model: TransformersModel) -> dict[str, tuple[Any, Any]]:
    """Effects on the mean difference of the eight prompts, with BOS, by site: patched exactly, and estimated.

    Heads, queries, keys and values at all positions together (layer, head), blocks by layer and position.
    """
    asked, found = pairs(model, True), {}
    for sites, where in (
        (["head", "q", "k", "v", "pattern"], "together"),
        (["residual_pre", "attention", "mlp"], None),
    ):
        exact = edif.activation_patching(model, **asked, sites=sites, positions=where, progress=False)
        guess = edif.attribution_patching(model, **asked, sites=sites, progress=False)
        clean, corrupt = (exact.data[end].sel(metric="logit_difference") for end in ("clean", "corrupt"))
        span = float((clean - corrupt).mean())
        for site in sites:
            patched = (exact.effect(site, normalised=False).mean("pair") - float(corrupt.mean())) / span
            each = guess.data[site] * (guess.data["clean"] - guess.data["corrupt"])
            estimated = each.mean("pair") / span
            if where == "together":
                patched, estimated = patched[:, 0], estimated.sum("position")
            found[site] = (patched.values, estimated.values)
    return found


def correlations(model: TransformersModel) -> tuple[dict[str, float], tuple[float, float]]:
    """How estimates go with exact patching, by site; and the strongest cell of MLP 0, exact and estimated."""
    found = maps(model)
    first, guess = (values[0] for values in found["mlp"])
    place = int(np.argmax(abs(first)))
    together = {site: float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) for site, (one, other) in found.items()}
    return together, (float(first[place]), float(guess[place]))


def paper_prompts() -> list[tuple[str, str, str]]:
    """Prompts of the IOI paper, always the same: text, the name that is asked for, and the one who gives."""
    draw, made = np.random.default_rng(0), []
    for template in PAPER:
        for order in (1, -1):
            for _ in range(_FILLED):
                first, second = (NAMES[n] for n in draw.choice(len(NAMES), 2, replace=False))
                place, thing = (words[draw.integers(len(words))] for words in (PLACES, THINGS))
                asked_for, giver = (first, second)[::order]
                text = template.format(first, second, place=place, thing=thing).replace("[S]", giver)
                made.append((text, asked_for, giver))
    return made


def paper_differences(model: TransformersModel) -> np.ndarray[Any, Any]:
    """Logit difference of each of the paper's prompts, without BOS as in its code."""
    asked = paper_prompts()
    found = edif.logit_lens(
        model, [text for text, _, _ in asked], layers=[11], positions=[-1], targets=NAMES, top=1, progress=False
    )
    logits = found.data["target_logit"].values[:, 0, 0]
    places = [(NAMES.index(right), NAMES.index(wrong)) for _, right, wrong in asked]
    return np.array([row[right] - row[wrong] for row, (right, wrong) in zip(logits, places, strict=True)])


def noise_level(model: TransformersModel, facts: list[dict[str, str]]) -> float:
    """Three standard deviations of the embeddings of all facts' subjects."""
    asked = []
    for fact in facts:
        ids = list(map(int, model.tokenizer(fact["prompt"]).input_ids))
        asked.append(Fact(ids, subject_span(model.tokenizer, ids, fact["subject"]), None, None))
    return 3 * spread(Decoder(model), asked)


def averages(model: TransformersModel, facts: list[dict[str, str]], level: float, layers: list[int]) -> dict[str, Any]:
    """Average total effect, and by kind the indirect one at the subject's last token (layer); intervals of 99 %."""
    prompts, subjects = ([fact[name] for fact in facts] for name in ("prompt", "subject"))
    found = edif.causal_trace(model, prompts, subjects, level=level, layers=layers, progress=False)
    total = bootstrap(found.total_effect().values[:, None], 0.99)
    told: dict[str, Any] = {"total": [float(part[0]) for part in total]}
    for kind in ("state", "mlp", "attention"):
        average = found.average(kind, level=0.99).sel(token_class="last subject")
        told[kind] = [average[part].values for part in ("mean", "low", "high")]
    return told


def needle(model: TransformersModel) -> tuple[str, float, float, Any]:
    """What the model says of the Space Needle, how probable, with noise, and what layer 15 brings back, by position."""
    found = edif.causal_trace(model, NEEDLE, SUBJECT, kinds="state", layers=[15], progress=False)
    effect = found.indirect_effect("state")[0, 0].values
    answer = str(found.data["answer_token"].values[0])
    return answer, float(found.data["clean"][0]), float(found.data["corrupted"].mean()), effect
