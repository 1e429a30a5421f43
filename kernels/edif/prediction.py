"""What a model would say next: ``edif.next_tokens(logits, tokenizer)``.

Called by users on logits that a trace saved; runs in the user's process and imports neither torch nor a widget.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

RESULT_TYPE = "application/vnd.edif.result.v1+json"

_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"})


def visible(token: str) -> str:
    """``token`` with its white space drawn: a space is ␣, a newline ↵."""
    return token.translate(_VISIBLE)


@dataclass(frozen=True, slots=True, eq=False)
class NextTokens:
    """The ``k`` most probable next tokens, most probable first; drawn as a card in JupyterLab."""

    ids: NDArray[np.int64]  # (k,)
    tokens: tuple[str, ...]  # (k,)
    probabilities: NDArray[np.float64]  # (k,)
    logits: NDArray[np.float64]  # (k,)
    title: str
    provenance: dict[str, str | bool]  # model, dtype and, with a prompt, prompt and bos
    foot: str

    @property
    def top(self) -> str:
        """The most probable token."""
        return self.tokens[0]

    def as_json(self) -> dict[str, Any]:
        """The result as ``application/vnd.edif.result.v1+json`` holds it."""
        rows = zip(self.ids, self.tokens, self.probabilities, self.logits, strict=True)
        return {
            "kind": "next_tokens",
            "title": self.title,
            "provenance": dict(self.provenance),
            "tokens": [
                {"id": int(id), "text": text, "probability": round(float(p), 6), "logit": round(float(logit), 4)}
                for id, text, p, logit in rows
            ],
            "foot": self.foot,
        }

    def __repr__(self) -> str:
        shown = [visible(token) for token in self.tokens]
        width = max(map(len, shown))
        rows = zip(shown, self.probabilities, self.logits, strict=True)
        lines = [f"{token:<{width}}  {p:6.3f}  {logit:8.3f}" for token, p, logit in rows]
        return "\n".join([f"{self.title} (probability, logit)", *lines, self.foot])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from edif.picture_still import still  # noqa: PLC0415 (only where it is shown: drawing takes a while to import)

        drawn = self.as_json()
        return {RESULT_TYPE: drawn, "text/html": self._html(), "text/plain": repr(self), **still(drawn)}

    def _source(self) -> list[str]:
        """Model, dtype, BOS policy and prompt in the words of a reader."""
        known = self.provenance
        bos = ["BOS" if known["bos"] else "no BOS", f"“{known['prompt']}”"] if "bos" in known else []
        return [str(known["model"]), str(known["dtype"]), *bos]

    def _html(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left'><code>{escape(visible(token))}</code></td>"
            f"<td>{p:.3f}</td><td>{logit:.3f}</td></tr>"
            for token, p, logit in zip(self.tokens, self.probabilities, self.logits, strict=True)
        )
        source = escape(" · ".join(self._source()))
        return (
            f"<table><caption>{escape(self.title)}<br><small>{source}</small></caption><thead><tr><th>token</th>"
            f"<th>probability</th><th>logit</th></tr></thead><tbody>{rows}</tbody></table>"
            f"<small>{escape(self.foot)}</small>"
        )


def next_tokens(
    logits: Tensor, tokenizer: Any, k: int = 10, *, prompt: str | None = None, title: str = "Next token"
) -> NextTokens:
    """The ``k`` most probable tokens by the last position of ``logits``.

    Args:
        logits: ``(vocabulary)``, ``(positions, vocabulary)`` or ``(1, positions, vocabulary)``, any float dtype.
        tokenizer: the model's, for the tokens' text and the model's name.
        k: how many; at most the vocabulary.
        prompt: what the model read, shown with the result and used to tell whether a BOS token came first.
        title: heading of the card.

    Raises:
        ValueError: several prompts in ``logits``, no position, not-a-number, or ``k`` below one.
    """
    row = _last_position(logits)  # (V,) float32
    if k < 1:
        raise ValueError(f"k says how many tokens to show and must be at least 1, not {k}.")
    probabilities = row.softmax(-1)
    best = probabilities.topk(min(k, row.shape[-1]))
    ids = best.indices.cpu().numpy()
    held = float(best.values.sum())
    return NextTokens(
        ids=ids,
        tokens=tuple(token_text(tokenizer, int(id)) for id in ids),
        probabilities=best.values.double().cpu().numpy(),
        logits=row[best.indices].double().cpu().numpy(),
        title=title,
        provenance=_provenance(logits, tokenizer, prompt),
        foot=f"{len(ids)} of {row.shape[-1]:,} tokens, holding {held:.1%} of the probability",
    )


def _last_position(logits: Tensor) -> Tensor:
    shape = tuple(logits.shape)
    if len(shape) == 3 and shape[0] != 1:
        raise ValueError(f"These logits hold {shape[0]} prompts: choose one, for example logits[0].")
    if not 1 <= len(shape) <= 3 or 0 in shape:
        raise ValueError(f"Logits of shape {shape} hold no position: expected (vocabulary) or (positions, vocabulary).")
    row = logits.detach().reshape(-1, shape[-1])[-1].float()
    if bool(row.isnan().any()):
        raise ValueError("These logits are not numbers (NaN): something in the trace overflowed or divided by zero.")
    return row


def token_text(tokenizer: Any, id: int) -> str:
    """The token as it stands in a text; sentencepiece's leading space, which ``decode`` drops, is put back."""
    text = str(tokenizer.decode([id]))
    piece = str(tokenizer.convert_ids_to_tokens(id))
    return f" {text}" if piece.startswith("▁") and not text.startswith(" ") else text


def _provenance(logits: Tensor, tokenizer: Any, prompt: str | None) -> dict[str, str | bool]:
    provenance: dict[str, str | bool] = {
        "model": str(tokenizer.name_or_path),
        "dtype": str(logits.dtype).removeprefix("torch."),
    }
    if prompt is not None:
        first = tokenizer(prompt).input_ids[:1]
        bos = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
        provenance |= {"prompt": prompt, "bos": bos}
    return provenance
