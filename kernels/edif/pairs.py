"""Pairs of prompts that methods compare, out of what users give: token ids, answers, and which positions correspond.

Used by the patching methods; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edif import asked
from edif.alignment import Alignment, align
from edif.engine.patches import Pair
from edif.result import begins_with_bos, token_texts

#: Clean activations into the corrupt run (what suffices), corrupt ones into the clean run (what is necessary).
DIRECTIONS = ("denoise", "noise")


class Prompts:
    """One clean and one corrupt prompt, and which positions correspond."""

    def __init__(self, clean: list[int], corrupt: list[int], answer: tuple[int, int], alignment: Alignment) -> None:
        self.clean, self.corrupt, self.answer, self.alignment = clean, corrupt, answer, alignment

    def run(self, way: str) -> Pair:
        """The run that is changed and the one that it is changed by."""
        if way == "denoise":
            return Pair(self.corrupt, self.clean, self.clean, self.alignment.backward(), *self.answer)
        return Pair(self.clean, self.corrupt, self.clean, self.alignment.forward(), *self.answer)

    def facts(self, tokenizer: Any) -> dict[str, Any]:
        """What a reader must know of it."""
        return {
            "clean": tokenizer.decode(self.clean),
            "corrupt": tokenizer.decode(self.corrupt),
            "clean_ids": self.clean,
            "corrupt_ids": self.corrupt,
            "answer": list(self.answer),
            "answer_tokens": [str(text) for text in token_texts(tokenizer, np.array(self.answer))],
            "aligned": [list(pair) for pair in self.alignment.pairs],
            **{
                f"{side}_tokens": token_texts(tokenizer, np.array(ids)).tolist()
                for side, ids in (("clean", self.clean), ("corrupt", self.corrupt))
            },
            "bos": begins_with_bos(tokenizer, self.clean),
        }


def prompt_pairs(model: Any, clean: Any, corrupt: Any, answer: Any, alignment: Any) -> list[Prompts]:
    """Pairs of prompts out of what a user gives: texts or token ids.

    Raises:
        ValueError: unequal numbers, an empty prompt or one that is too long, nothing to align, or an answer that is
            not one token.
    """
    goods, bads = (asked.prompt_ids(model, texts) for texts in (clean, corrupt))
    if len(goods) != len(bads):
        raise ValueError(f"There are {len(goods)} clean and {len(bads)} corrupt prompts: each needs its counterpart.")
    answers = asked.answers(model.tokenizer, answer, len(goods))
    alignments = list(alignment) if isinstance(alignment, Sequence) else [alignment] * len(goods)
    if len(alignments) != len(goods):
        raise ValueError(f"{len(goods)} pairs need as many alignments, or one for all.")
    for given, good, bad in zip(alignments, goods, bads, strict=True):
        _check_within(given, good, bad)
    return [
        Prompts(good, bad, right_and_wrong, given or align(good, bad))
        for good, bad, right_and_wrong, given in zip(goods, bads, answers, alignments, strict=True)
    ]


def check_patterns(sites: Sequence[str], pairs: Sequence[Prompts]) -> None:
    """Refuse to put a pattern into another prompt's places.

    Raises:
        ValueError: positions correspond to others.
    """
    if "pattern" in sites and any(one != other for pair in pairs for one, other in pair.alignment.pairs):
        raise ValueError(
            "A pattern has a weight for each position: it is patched between prompts of equal length only."
        )


def _check_within(given: Alignment | None, clean: list[int], corrupt: list[int]) -> None:
    beyond = [
        pair
        for pair in (given.pairs if given else ())
        if not (0 <= pair[0] < len(clean) and 0 <= pair[1] < len(corrupt))
    ]
    if beyond:
        raise ValueError(
            f"{beyond[0]} cannot be aligned: the clean prompt has positions 0 to {len(clean) - 1}, the corrupt one "
            f"0 to {len(corrupt) - 1}."
        )
