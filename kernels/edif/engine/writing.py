"""Lets a model write on while its activations are changed: greedy, in batches, beside the weights.

Used by :mod:`edif.engine.directions`.  What is written without a change is what ``generate(do_sample=False)`` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edif.engine.changes import Changes
from edif.engine.sweeps import last_logits


def write(
    model: Any, ids: Sequence[int], changes: Changes, numbers: Sequence[int | None], tokens: int, lasting: bool
) -> torch.Tensor:
    """The most probable continuations of one prompt, (changes, tokens); -1 after an end of text.

    Args:
        numbers: which changes, one a row; None for no change.
        lasting: changes are made to what is written, too; else to the prompt alone.
    """
    rows = len(numbers)
    wanted = [(slice(row, row + 1), number) for row, number in enumerate(numbers) if number is not None]
    ends = _ends(model)
    written = torch.full((rows, tokens), -1)
    ended = torch.zeros(rows, dtype=torch.bool)
    given, few = torch.tensor([list(ids)]).repeat(rows, 1), last_logits(model)
    kept: dict[str, Any] = {}
    for step in range(tokens):
        mask = torch.ones((rows, len(ids) + step), dtype=torch.long)
        made = wanted if lasting or not step else []
        with model.trace(given, attention_mask=mask, use_cache=True, **few, **kept):
            changes.make(made, 0)
            said = model.output.logits[:, -1].argmax(-1)
            cache = model.output.past_key_values
        said = said.cpu()
        written[:, step] = torch.where(ended, -1, said)
        ended |= torch.isin(said, ends)
        if bool(ended.all()):
            break
        given, kept = said[:, None], {"past_key_values": cache}
    return written


def _ends(model: Any) -> torch.Tensor:
    """Tokens that end a text."""
    config = getattr(model._module, "generation_config", None) or model._module.config
    end = getattr(config, "eos_token_id", None)
    return torch.tensor([] if end is None else [end] if isinstance(end, int) else list(end), dtype=torch.long)
