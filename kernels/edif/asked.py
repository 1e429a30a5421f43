"""What users ask of a method, made into what the work beside the weights takes; what cannot be is one sentence.

Called by every method; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edif.engine.decoder import Paths, layers_of
from edif.result import token_texts

#: More cells than this would be hours of work, and a map that nobody can look at.
MOST_CELLS = 100_000
#: What configurations call the number of positions that a model has been made for.
_CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


def prompt_ids(model: Any, prompt: Any, beyond: int = 0) -> list[list[int]]:
    """Token ids of a text, of several texts, or of ids.

    Args:
        beyond: so many tokens come after each prompt.

    Raises:
        ValueError: there is no token, or more than the model takes.
    """
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    if texts and not isinstance(texts[0], str) and np.ndim(texts[0]) == 0:
        texts = [texts]  # the ids of one prompt
    ids = [list(map(int, model.tokenizer(t).input_ids if isinstance(t, str) else t)) for t in texts]
    if not ids or not all(ids):
        raise ValueError("An empty prompt has no position to look at.")
    check_context(model, ids, beyond)
    return ids


def check_context(model: Any, prompts: Sequence[Sequence[int]], beyond: int = 0) -> None:
    """Refuse prompts that are longer than what the model has been made for.

    Raises:
        ValueError: one is; with both numbers.
    """
    config = model._module.config.get_text_config()
    most = next((value for name in _CONTEXT if isinstance(value := getattr(config, name, None), int)), None)
    longest = max(map(len, prompts)) + beyond
    if most is not None and longest > most:
        new = f", {beyond} new ones included," if beyond else ""
        raise ValueError(
            f"The longest prompt has {longest} tokens{new} and this model takes {most} at most: shorten it."
        )


def single_token(tokenizer: Any, token: int | str) -> int:
    """The id of a token given as id or as text.

    Raises:
        ValueError: the text is not one token, or there is no such id.
    """
    if not isinstance(token, str):
        if not 0 <= int(token) < len(tokenizer):
            raise ValueError(f"There is no token {int(token)}: ids go from 0 to {len(tokenizer) - 1}.")
        return int(token)
    ids = tokenizer(token, add_special_tokens=False).input_ids
    if len(ids) != 1:
        parts = ", ".join(repr(str(text)) for text in token_texts(tokenizer, np.array(ids, dtype=np.int64)))
        hint = "" if token.startswith(" ") else f" In the middle of a text words begin with a space: {' ' + token!r}?"
        first = f" To look at its first token alone, give its id: {ids[0]}." if ids else ""
        raise ValueError(f"{token!r} is {len(ids)} tokens here ({parts}), and one is needed.{hint}{first}")
    return int(ids[0])


def answers(tokenizer: Any, answer: Any, count: int) -> list[tuple[int, int]]:
    """Right and wrong token of each of so many prompts, of a pair for each or one for all.

    Raises:
        ValueError: another number of them, no pairs, an answer that is not one token, or twice the same.
    """
    given = [answer] * count if isinstance(answer, tuple) else list(answer)
    if len(given) != count:
        raise ValueError(f"{count} prompts need as many answers, or one for all.")
    if odd := [one for one in given if isinstance(one, str) or len(one) != 2]:
        raise ValueError(f"An answer is a pair, the right token and the wrong one: got {odd[0]!r}.")
    pairs = [(single_token(tokenizer, right), single_token(tokenizer, wrong)) for right, wrong in given]
    if same := [one for one, (right, wrong) in zip(given, pairs, strict=True) if right == wrong]:
        raise ValueError(f"The right and the wrong answer are both {same[0][0]!r}: name two tokens that differ.")
    return pairs


def layers(model: Any, asked: Sequence[int] | None, path: Paths) -> list[int]:
    """The layers that are asked for, in order; all of them by default.

    Raises:
        ValueError: one is not there.
    """
    return numbers("layer", asked, len(layers_of(model, path)))


def numbers(what: str, asked: Sequence[int] | None, count: int) -> list[int]:
    """Which of so many; negative ones count from the end.

    Raises:
        ValueError: one is not there, or none was asked for.
    """
    if asked is None:
        return list(range(count))
    beyond = [number for number in asked if not -count <= number < count]
    if beyond or not len(asked):
        raise ValueError(
            f"There is no {what} {beyond[0] if beyond else 'in an empty list'}: it has {what}s 0 to {count - 1}."
        )
    return sorted({number % count for number in asked})


def one_of(what: str, asked: Sequence[str], known: Sequence[str]) -> None:
    """Refuse words that are not known.

    Raises:
        ValueError: with what there is.
    """
    if unknown := [one for one in asked if one not in known]:
        raise ValueError(f"There is no {what} {unknown[0]!r}: choose from {', '.join(known)}.")


def check_cells(cells: int, chosen: Sequence[int], most: int = MOST_CELLS) -> None:
    """Refuse more cells than one job should have; ``chosen`` are the layers that they are of.

    Raises:
        ValueError: with their number, and a stride over layers that fits.
    """
    if cells <= most:
        return
    each = cells / len(chosen)
    stride = next((n for n in range(2, len(chosen)) if -(-len(chosen) // n) * each <= most), None)
    if stride is None:
        advice = "choose fewer prompts, positions or sites"
    else:
        fitting = sorted(range(len(chosen) - 1, -1, -stride))
        advice = f"every {stride}. layer fits: layers=range({chosen[fitting[0]]}, {chosen[-1] + 1}, {stride})"
    raise ValueError(f"These are {cells} cells, and one job computes {most} at most: {advice}.")


def parts_known(path: Paths) -> dict[str, Any]:
    """What the provenance says of parts that the user has named: a later look into the same model finds them again."""
    return {} if path is None else {"parts": path if isinstance(path, str) else dict(path)}


def name_of(metric: Any) -> str:
    """What a metric of the user's is called in a result."""
    return str(getattr(metric, "__name__", "own"))
