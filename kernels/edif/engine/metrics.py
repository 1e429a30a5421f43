"""What methods measure of what the model says at the last position, all at once and beside the weights.

Used by :mod:`edif.engine.patches`, :mod:`edif.engine.paths` and :mod:`edif.engine.directions`; so a view can change
between metrics without another run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

#: In the order of the last axis of what is measured; a user's own metric comes after them.
METRICS = ("logit_difference", "probability", "log_probability", "rank", "kl")
#: Those that need no answer.
UNANSWERED = ("kl",)


class Metrics:
    """Values of logits (rows, vocabulary).

    Args:
        answer: right and wrong token; without them only what needs none is measured.
        own: a metric of the user's: of logits (rows, vocabulary), a value for each row.
    """

    def __init__(
        self, answer: tuple[int, int] | None, own: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        self._answer, self._own = answer, own
        self._reference = torch.empty(0)

    def refer(self, logits: torch.Tensor) -> None:
        """KL is taken from what these logits say, (1, vocabulary)."""
        self._reference = logits.float().log_softmax(-1)

    def of(self, logits: torch.Tensor) -> torch.Tensor:
        """All metrics of each row, (rows, metrics).

        Raises:
            ValueError: the user's own does not give one value for each row.
        """
        logits = logits.float()
        spoken = logits.log_softmax(-1)
        kl = (self._reference.exp() * (self._reference - spoken)).sum(-1)
        values: list[torch.Tensor] = [kl]
        if self._answer is not None:
            right, wrong = self._answer
            rank = (logits > logits[:, right : right + 1]).sum(-1) + 1
            values = [logits[:, right] - logits[:, wrong], spoken[:, right].exp(), spoken[:, right], rank, kl]
        if self._own is not None:
            values.append(self._checked(self._own(logits), len(logits)))
        return torch.stack([value.to(torch.float64) for value in values], -1)

    def _checked(self, given: Any, rows: int) -> torch.Tensor:
        value = torch.as_tensor(given)
        if value.shape != (rows,):
            raise ValueError(
                f"The metric gave shape {tuple(value.shape)} for logits of {rows} rows: one value for each row is "
                "needed, such as logits[:, token]."
            )
        return value
