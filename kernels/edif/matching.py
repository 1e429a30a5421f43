"""What two tokenizers have in common: positions that end at the same character, and tokens of the same text.

Used by :mod:`edif.comparison`; runs in the user's process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from edif.result import token_texts


def aligned_places(
    one: Any, other: Any, texts: Sequence[str], ids: Sequence[Sequence[Sequence[int]]]
) -> tuple[list[list[int]], list[list[int]]]:
    """For each text, the positions of both prompts whose tokens end at the same character.

    Args:
        ids: token ids of the texts by the one tokenizer, and by the other.

    Raises:
        ValueError: there are none.
    """
    here: list[list[int]] = []
    there: list[list[int]] = []
    for number, text in enumerate(texts):
        first, second = ids[0][number], ids[1][number]
        if list(first) == list(second):
            pairs = [(place, place) for place in range(len(first))]
        else:
            ends = {end: place for place, end in enumerate(_ends(other, text, second)) if end}
            pairs = [(place, ends[end]) for place, end in enumerate(_ends(one, text, first)) if end in ends]
        if not pairs:
            raise ValueError(f"The tokens of both models end nowhere together in {text!r}: nothing can be compared.")
        here.append([pair[0] for pair in pairs])
        there.append([pair[1] for pair in pairs])
    return here, there


def shared_tokens(one: Any, other: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of the tokens that both have, in the same order: of the one, and of the other.

    Tokens are the same when they write the same text and no other token of either does.

    Raises:
        ValueError: there are hardly any.
    """
    if one.get_vocab() == other.get_vocab():
        ids = torch.tensor(sorted(set(one.get_vocab().values())))
        return ids, ids
    here, there = _written(one), _written(other)
    pairs = sorted((id, there[text]) for text, id in here.items() if text in there)
    if len(pairs) < 2:
        raise ValueError("The vocabularies of both models have no tokens in common: nothing can be compared.")
    return torch.tensor([pair[0] for pair in pairs]), torch.tensor([pair[1] for pair in pairs])


def _ends(tokenizer: Any, text: str, ids: Sequence[int]) -> list[int]:
    """For each token the number of characters up to its end; 0 where it writes none (BOS)."""
    if getattr(tokenizer, "is_fast", False):
        spans = tokenizer(text, return_offsets_mapping=True).offset_mapping
        return [end if end > start else 0 for start, end in spans]
    return [len(tokenizer.decode(ids[: place + 1], skip_special_tokens=True)) for place in range(len(ids))]


def _written(tokenizer: Any) -> dict[str, int]:
    """Ids by text, of texts that one token alone writes."""
    ids = sorted(set(tokenizer.get_vocab().values()))
    texts = token_texts(tokenizer, ids).tolist()
    counts = Counter(texts)
    found = dict(zip(texts, ids, strict=True))
    return {text: id for text, id in found.items() if text and counts[text] == 1 and "\ufffd" not in text}
