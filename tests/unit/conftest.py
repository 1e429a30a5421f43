"""Small random models of every family that methods are tested on, and residents with a fleet of names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nnsight import TransformersModel
from tests.dispatch_house import GB, Build, House
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from edif_backend.dispatch import residents, sizes
from edif_backend.models.tiny_gpt2 import make_tokenizer

_SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
#: Every family has 4 layers, width 32, 4 heads (2 key/value heads where they are grouped) and the tiny tokenizer.
FAMILIES: dict[str, Callable[..., PretrainedConfig]] = {
    "gpt2": lambda **given: GPT2Config(n_embd=32, n_layer=4, n_head=4, n_positions=64, **given),
    "neox": lambda **given: GPTNeoXConfig(**_SIZES, **given),
    "llama": lambda **given: LlamaConfig(**_GROUPED, **given),
    "qwen2": lambda **given: Qwen2Config(**_SIZES, num_key_value_heads=2, **given),
    "qwen3": lambda **given: Qwen3Config(**_GROUPED, **given),
    "gemma": lambda **given: GemmaConfig(**_GROUPED, **given),
    "gemma2": lambda **given: Gemma2Config(**_GROUPED, sliding_window=3, **given),
    # attention that looks back three positions only: earlier keys and values are not all that is remembered
    "mistral": lambda **given: MistralConfig(**_GROUPED, sliding_window=3, **given),
}


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TransformersModel]:
    """A fresh model of a family: random weights (always the same), frozen, in eval mode, float32, eager attention."""
    torch.set_num_threads(1)  # more threads than free cores are many times slower than one
    folder = tmp_path_factory.mktemp("families")
    tokenizer = make_tokenizer()

    def make(family: str) -> TransformersModel:
        home = folder / family
        if not home.exists():
            ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
            torch.manual_seed(0)
            made = AutoModelForCausalLM.from_config(FAMILIES[family](vocab_size=len(tokenizer), **ends))
            _uneven(made)
            made.save_pretrained(home)
            tokenizer.save_pretrained(home)
        model = TransformersModel(str(home), task="text-generation", dispatch=True, attn_implementation="eager")
        model._module.eval().requires_grad_(False)
        return model

    return make


def _uneven(model: PreTrainedModel) -> None:
    """Offsets and scales that are not all zero and one, as trained models have them: none may be forgotten.

    And weights so large that layers of this width say something to each other, above the noise of rounding.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)
            else:
                parameter.mul_(4)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    monkeypatch.setattr(residents, "complete", lambda entry, folder: entry)
    monkeypatch.setattr(sizes, "replica_bytes", lambda snapshot, slots: GB // 2)
    monkeypatch.setattr(sizes, "parked_bytes", lambda snapshot: GB // 4)
    monkeypatch.setattr(sizes, "beside_bytes", lambda snapshot, slots: GB // 4)
    monkeypatch.setattr(sizes, "layer_bytes", lambda snapshot, slots: (GB // 8,) * 4)
    made = []

    def build(text: str, **options: Any) -> House:
        made.append(House(tmp_path, text, **options))
        return made[-1]

    yield build
    for one in made:
        one.jobs.close()
