"""Make ``edif/tiny-gpt2``: a random GPT-2 with its own tokenizer, for tests and benchmarks, without any download.

Called by ``snapshots.prepare`` in the preparing process.  The weights are the same bytes on every machine, so expected
values can be written into tests: they come from whole numbers, because torch's and numpy's normal distributions round
differently from one processor to the next.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.snapshots import Say, need_space

LAYERS = 4
WIDTH = 128
HEADS = 4
CONTEXT_TOKENS = 1024
SPREAD = 0.1  #: standard deviation of weights: GPT-2's 0.02 leaves so narrow a model nearly constant
END = "<|endoftext|>"
NEEDED_BYTES = 20_000_000

# Words that are one token, so that examples from papers have the shape they have with real models.
FIRST_WORDS = ("The", "When", "In", "She", "He", "It", "A")
LATER_WORDS = """
    the a of in to and is was that said city capital Eiffel Tower Paris Rome London Berlin France Germany Italy located
    Mary John went store gave drink bottle nurse doctor she he her his who are they one two three hello world
"""

CARD = """\
---
license: mit
library_name: transformers
pipeline_tag: text-generation
---
# {id}

A GPT-2 with random weights ({layers} layers, width {width}, {heads} heads), made in code: for tests and benchmarks.
It has learned nothing.
"""


def build(entry: ModelEntry, folder: Path, say: Say) -> str | None:
    """Write the model and its tokenizer into ``folder``; the snapshot's commit is the digest of the files."""
    need_space(folder, entry, NEEDED_BYTES)
    say(f"{entry.id}: making random weights")
    tokenizer = make_tokenizer()
    make_model(len(tokenizer), tokenizer.eos_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = CARD.format(id=entry.id, layers=LAYERS, width=WIDTH, heads=HEADS)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return None


def make_model(vocabulary: int, end_id: int) -> GPT2LMHeadModel:
    """The model in float32 with its fixed random weights, without dropout."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=CONTEXT_TOKENS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end_id,
        eos_token_id=end_id,
        pad_token_id=end_id,
        dtype="float32",
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif ".ln_" in name:
                parameter.fill_(1.0)
            else:
                parameter.copy_(noise(name, tuple(parameter.shape)))
    return model


def noise(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Nearly normal numbers of spread SPREAD that depend on ``name`` and ``shape`` alone: sums of random integers."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    # RandomState's streams are frozen for good, numpy's newer generators may change
    draws = np.random.RandomState(seed).randint(0, 1 << 16, size=(4, *shape), dtype=np.int64)
    centred = draws.sum(axis=0) - 2 * ((1 << 16) - 1)
    deviation = (4 / 12) ** 0.5 * (1 << 16)
    return torch.from_numpy((centred * (SPREAD / deviation)).astype(np.float32))


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2's, over the 256 bytes and the words above."""
    space = "Ġ"  # how byte-level BPE writes a space
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in [*FIRST_WORDS, *(space + word for word in LATER_WORDS.split())]:
        for end in range(1, len(word)):  # each word grows from its first letter: no merge can disturb another word
            merges[(word[:end], word[end])] = None
    vocabulary = dict.fromkeys([END, *alphabet, *(left + right for left, right in merges)])
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=CONTEXT_TOKENS,
    )
