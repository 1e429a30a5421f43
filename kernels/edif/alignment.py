"""Which positions of two prompts correspond: by what they begin and end with, to be seen and to be changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Alignment:
    """Pairs (position of the clean prompt, position of the corrupt prompt); each position at most once.

    Raises:
        ValueError: a position occurs twice, or there is no pair.
    """

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self.pairs = sorted((int(one), int(other)) for one, other in pairs)
        for side, name in enumerate(("clean", "corrupt")):
            places = [pair[side] for pair in self.pairs]
            if len(set(places)) < len(places):
                raise ValueError(f"A position of the {name} prompt is aligned twice.")
        if not self.pairs:
            raise ValueError(
                "The prompts have no position in common: name corresponding positions with edif.Alignment."
            )

    def forward(self) -> dict[int, int]:
        """From positions of the clean prompt to those of the corrupt one."""
        return dict(self.pairs)

    def backward(self) -> dict[int, int]:
        """From positions of the corrupt prompt to those of the clean one."""
        return {other: one for one, other in self.pairs}

    def show(self, clean: Sequence[str], corrupt: Sequence[str]) -> str:
        """Both prompts' tokens, one pair a line; what has no counterpart stands alone."""
        there, back = self.forward(), self.backward()
        lines, other = [], 0
        for one, token in enumerate(clean):
            while other < len(corrupt) and other not in back:
                lines.append(f"{'':>20}   {other:>3} {corrupt[other]}")
                other += 1
            if one in there:
                lines.append(f"{one:>3} {token:>16}   {there[one]:>3} {corrupt[there[one]]}")
                other = max(other, there[one] + 1)
            else:
                lines.append(f"{one:>3} {token:>16}")
        lines += [
            f"{'':>20}   {place:>3} {corrupt[place]}" for place in range(other, len(corrupt)) if place not in back
        ]
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alignment) and self.pairs == other.pairs

    def __hash__(self) -> int:
        return hash(tuple(self.pairs))

    def __repr__(self) -> str:
        return f"Alignment({self.pairs})"


def align(clean: Sequence[int], corrupt: Sequence[int]) -> Alignment:
    """Align two prompts' tokens: the common beginning, the common end, and what is between if it is equally long.

    What is between and not equally long stays without counterpart: nothing is ever shifted silently.

    Raises:
        ValueError: the prompts neither begin nor end alike, and differ in length.
    """
    shorter = min(len(clean), len(corrupt))
    if len(clean) == len(corrupt):
        return Alignment((place, place) for place in range(shorter))
    begin = next((place for place in range(shorter) if clean[place] != corrupt[place]), shorter)
    end = next((n for n in range(shorter - begin) if clean[-1 - n] != corrupt[-1 - n]), shorter - begin)
    ends = [(len(clean) - 1 - n, len(corrupt) - 1 - n) for n in range(end)]
    return Alignment([*((place, place) for place in range(begin)), *ends])
