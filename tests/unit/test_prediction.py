"""``edif.next_tokens``: the figures, the refusals, and the three renderings of one result."""

from __future__ import annotations

import json

import pytest
import torch

import edif
from edif.prediction import RESULT_TYPE

PIECES = [" Paris", "\n", "<b>&", "x"]


class Tokenizer:
    """Four tokens, the last of which opens a text."""

    name_or_path = "edif/tiny"
    bos_token_id: int | None = None

    def decode(self, ids: list[int]) -> str:
        """The text of one token."""
        return PIECES[ids[0]]

    def convert_ids_to_tokens(self, id: int) -> str:
        """The token as the vocabulary holds it."""
        return PIECES[id]

    def __call__(self, text: str) -> Tokenizer:
        self.input_ids = [3, 0]
        return self


LOGITS = torch.tensor([[0.0, 0.0, 0.0, 5.0], [3.0, 1.0, 2.0, -1.0]])


def test_last_position_most_probable_first() -> None:
    result = edif.next_tokens(LOGITS, Tokenizer(), k=3)
    assert result.ids.tolist() == [0, 2, 1]
    assert result.top == " Paris"
    assert result.probabilities == pytest.approx(LOGITS[1].softmax(-1)[[0, 2, 1]].tolist())
    assert result.logits.tolist() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 1, 4)])
def test_shapes_of_one_prompt(shape: tuple[int, ...]) -> None:
    assert edif.next_tokens(LOGITS[1].reshape(shape), Tokenizer()).ids.tolist() == [0, 2, 1, 3]


def test_half_precision_is_reckoned_in_single() -> None:
    result = edif.next_tokens(LOGITS.bfloat16(), Tokenizer())
    assert result.probabilities.sum() == pytest.approx(1.0)
    assert result.provenance["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("logits", "k", "sentence"),
    [
        (torch.zeros(2, 3, 4), 1, "2 prompts"),
        (torch.zeros(0, 4), 1, "no position"),
        (torch.tensor(1.0), 1, "no position"),
        (torch.tensor([float("nan"), 1.0]), 1, "NaN"),
        (torch.zeros(4), 0, "at least 1"),
    ],
)
def test_refusals_say_what_is_wrong(logits: torch.Tensor, k: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        edif.next_tokens(logits, Tokenizer(), k)


def test_bos_is_seen_not_guessed() -> None:
    tokenizer = Tokenizer()
    assert "bos" not in edif.next_tokens(LOGITS, tokenizer).provenance
    assert edif.next_tokens(LOGITS, tokenizer, prompt="x Paris").provenance["bos"] is False
    tokenizer.bos_token_id = 3
    assert edif.next_tokens(LOGITS, tokenizer, prompt="x Paris").provenance["bos"] is True


def test_renderings_show_white_space_and_escape() -> None:
    bundle = edif.next_tokens(LOGITS, Tokenizer(), prompt="<i>")._repr_mimebundle_()
    assert "␣Paris" in bundle["text/plain"]
    assert "↵" in bundle["text/plain"]
    assert "<b>" not in bundle["text/html"]
    assert "<i>" not in bundle["text/html"]
    assert "&lt;b&gt;&amp;" in bundle["text/html"]
    drawn = json.loads(json.dumps(bundle[RESULT_TYPE]))
    assert drawn["kind"] == "next_tokens"
    assert drawn["tokens"][0] == {
        "id": 0,
        "text": " Paris",
        "probability": pytest.approx(0.65723, abs=1e-5),
        "logit": 3.0,
    }
    assert set(drawn) == {"kind", "title", "provenance", "tokens", "foot"}
