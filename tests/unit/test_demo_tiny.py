"""``edif/tiny-gpt2``: the same bytes on every machine, and a tokenizer that does not lose text."""

from __future__ import annotations

import hashlib

import torch
from hypothesis import given
from hypothesis import strategies as st

from edif_backend.models.tiny_gpt2 import END, make_model, make_tokenizer

TOKENIZER = make_tokenizer()

# Changes only when somebody changes the model on purpose; raise snapshots.RECIPE then.
WEIGHTS = "0400977f1ac8f12e2e9e103cae7ade330386af08f05c41ac4304935a78917c66"
VOCABULARY = 421


def test_the_weights_are_the_same_bytes_on_every_machine() -> None:
    digest = hashlib.sha256()
    for name, tensor in sorted(make_model(len(TOKENIZER), TOKENIZER.eos_token_id).state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    assert digest.hexdigest() == WEIGHTS


def test_weights_do_not_depend_on_the_random_state() -> None:
    torch.manual_seed(1)
    one = make_model(len(TOKENIZER), TOKENIZER.eos_token_id)
    torch.manual_seed(2)
    other = make_model(len(TOKENIZER), TOKENIZER.eos_token_id)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_vocabulary_is_small_and_has_the_words_of_the_examples() -> None:
    assert len(TOKENIZER) == VOCABULARY
    assert TOKENIZER.tokenize("The Eiffel Tower is in the city of Paris")[-1] == "ĠParis"
    assert len(TOKENIZER("When Mary and John went to the store, John gave a drink to").input_ids) == 14
    assert TOKENIZER.pad_token == TOKENIZER.eos_token == TOKENIZER.bos_token == END


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    ids = TOKENIZER(text, split_special_tokens=True).input_ids
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text
