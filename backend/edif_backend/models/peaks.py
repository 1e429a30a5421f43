"""How much memory a job will need, foretold from what a few runs of its model have needed.

A profile is measured once for each model, revision and dtype (:mod:`edif_backend.executors.measuring`) and kept beside
the model's files (:mod:`~edif_backend.models.experience`).  Bytes are those that torch's allocator holds at the peak,
beyond the weights: activations, KV cache, logits, gradients.  Imports no torch: the dispatcher reads profiles too.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

#: How far a bent stretch between two measured points is taken towards the straight line, which is never too low.
_HIGHER = 0.25

#: Tokens of a sequence, and the peak in bytes with one and with two sequences of that length.
Point = tuple[int, int, int]


class Profile(BaseModel):
    """Peaks of one model, each list by rising length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attention: str | None  #: attention implementation it was measured with; others need other amounts
    forward: tuple[Point, ...]  #: a forward pass with all its logits, nothing kept for gradients
    prefill: tuple[Point, ...]  #: the first step of a generation
    decode: tuple[Point, ...]  #: a later step, by the length of the sequence so far
    backward: tuple[Point, ...]  #: forward and backward, gradients reaching the embeddings

    def peak_bytes(self, batch: int, tokens: int, generated: int = 0, gradients: bool = False) -> int:
        """The peak for ``batch`` sequences of ``tokens`` tokens.

        Args:
            generated: tokens that are generated for each sequence; 0: a plain forward pass.
            gradients: whether gradients flow back to the embeddings.
        """
        if generated:
            return max(_at(self.prefill, batch, tokens), _at(self.decode, batch, tokens + generated))
        return _at(self.backward if gradients else self.forward, batch, tokens)


def _at(points: tuple[Point, ...], batch: int, tokens: int) -> int:
    """The curve at a batch and length: masks and the like are there once, the rest once for each sequence."""
    one = _along([(length, single) for length, single, _ in points], tokens)
    two = _along([(length, double) for length, _, double in points], tokens)
    return round(one + (batch - 1) * max(two - one, 0.0))


def _along(points: list[tuple[int, int]], tokens: int) -> float:
    """A value between measured ones, or beyond them.

    Between two of them as ``a·n + b·n²`` (attention grows with the square), a little higher where the curve bends
    upwards (the peak may pass from one layer to another on the way), and straight where a constant makes it bend
    downwards.  Beyond the last along the bend of the last three, which are measured close together.
    """
    if len(points) == 1:
        return points[0][1] * max(1.0, tokens / points[0][0])
    if tokens > points[-1][0] and len(points) >= 3:
        return _beyond(points[-3:], tokens)
    upper = next((place for place, (length, _) in enumerate(points) if length >= tokens), len(points) - 1)
    (low, at_low), (high, at_high) = points[max(upper, 1) - 1], points[max(upper, 1)]
    if tokens < low:
        return max(at_low + (at_high - at_low) / (high - low) * (tokens - low), 0.0)
    square = (at_high / high - at_low / low) / (high - low)
    curve = (at_low / low - square * low) * tokens + square * tokens**2
    straight = at_low + (at_high - at_low) / (high - low) * (tokens - low)
    return min(curve + _HIGHER * (straight - curve), straight)


def _beyond(points: list[tuple[int, int]], tokens: int) -> float:
    (first, at_first), (middle, at_middle), (last, at_last) = points
    slope = (at_last - at_middle) / (last - middle)
    bend = (slope - (at_middle - at_first) / (middle - first)) / (last - first)
    bent = at_last + slope * (tokens - last) + max(bend, 0.0) * (tokens - last) * (tokens - middle)
    # Where the peak passes from one layer to another within the three, that is no bend: it grows no faster than all of
    # it with the length, and what bends from nothing on with its square.
    square = max((at_last / last - at_first / first) / (last - first), 0.0)
    return min(bent, at_last * tokens / last + square * tokens * (tokens - last))
