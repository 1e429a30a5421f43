"""Which positions of two prompts correspond: by what they begin and end with, to be seen and to be changed.

Used by the patching methods and by users; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from edif.prediction import visible

_CELL = "text-align:left;white-space:pre-wrap"
_Pairs = Iterable[tuple[int, int]]


class Alignment:
    """Pairs (position of the clean prompt, position of the corrupt prompt); each position at most once.

    Shown with both prompts side by side where their tokens are known: results give it so, ``found.alignment()``.

    Args:
        clean, corrupt: texts of the prompts' tokens, for display.

    Raises:
        ValueError: a position occurs twice, or there is no pair.
    """

    def __init__(self, pairs: _Pairs, clean: Sequence[str] = (), corrupt: Sequence[str] = ()) -> None:
        self.pairs = sorted((int(one), int(other)) for one, other in pairs)
        self.clean, self.corrupt = tuple(clean), tuple(corrupt)
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

    def edited(self, add: _Pairs = (), drop: _Pairs = ()) -> Alignment:
        """Another one: without some pairs, and with some; these take the place of pairs that held their positions.

        Raises:
            ValueError: no pair is left.
        """
        new, gone = list(add), list(drop)
        kept = [
            pair
            for pair in self.pairs
            if pair not in gone and not any(pair[side] == other[side] for other in new for side in (0, 1))
        ]
        return Alignment([*kept, *new], self.clean, self.corrupt)

    def rows(self) -> list[tuple[int | None, int | None]]:
        """Positions of both prompts in their order, one pair a row; what has no counterpart stands alone."""
        there, back = self.forward(), self.backward()
        rows: list[tuple[int | None, int | None]] = []
        other = 0
        for one in range(len(self.clean)):
            while one in there and other < there[one]:
                rows += [(None, other)] if other not in back else []
                other += 1
            rows.append((one, there.get(one)))
            other = max(other, there.get(one, -1) + 1)
        rows += [(None, place) for place in range(other, len(self.corrupt)) if place not in back]
        return rows

    def show(self, clean: Sequence[str] = (), corrupt: Sequence[str] = ()) -> str:
        """Both prompts' tokens, one pair a line; what has no counterpart stands alone."""
        shown = Alignment(self.pairs, clean or self.clean, corrupt or self.corrupt)
        return "\n".join(
            "   ".join(
                _said(place, texts) for place, texts in zip(row, (shown.clean, shown.corrupt), strict=True)
            ).rstrip()
            for row in shown.rows()
        )

    def _repr_html_(self) -> str:
        if not self.clean:
            return f"<code>{escape(repr(self))}</code>"
        head = "".join(f"<th scope='col' style='{_CELL}'>{name}</th>" for name in ("clean", "corrupt"))
        body = "".join(
            "<tr>"
            + "".join(
                f"<td style='{_CELL}'>{escape(_said(place, texts).strip()) or '–'}</td>"
                for place, texts in zip(row, (self.clean, self.corrupt), strict=True)
            )
            + "</tr>"
            for row in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alignment) and self.pairs == other.pairs

    def __hash__(self) -> int:
        return hash(tuple(self.pairs))

    def __repr__(self) -> str:
        return self.show() if self.clean else f"Alignment({self.pairs})"


def _said(place: int | None, texts: Sequence[str]) -> str:
    return f"{'':>20}" if place is None else f"{place:>3} {visible(texts[place]):<16}"


def of_pair(facts: Mapping[str, Any]) -> Alignment:
    """The alignment of a pair of prompts, as a result's provenance holds it."""
    texts = (facts.get(f"{side}_tokens", ()) for side in ("clean", "corrupt"))
    return Alignment(((one, other) for one, other in facts["aligned"]), *texts)


def align(
    clean: Sequence[int], corrupt: Sequence[int], spans: Iterable[tuple[tuple[int, int], tuple[int, int]]] = ()
) -> Alignment:
    """Align two prompts' tokens: the common beginning, the common end, and what is between if it is equally long.

    What is between and not equally long stays without counterpart: nothing is ever shifted silently.

    Args:
        spans: of positions that mean the same in both, such as two names of different length, as
            ``((first, after the last), (first, after the last))``; they correspond from their ends backwards.

    Raises:
        ValueError: the prompts neither begin nor end alike, and differ in length; or spans that overlap.
    """
    named = [
        (end - 1 - n, other_end - 1 - n)
        for (begin, end), (other_begin, other_end) in spans
        for n in range(min(end - begin, other_end - other_begin))
    ]
    if named:
        try:
            return align(clean, corrupt).edited(add=named)
        except ValueError:  # they have nothing else in common
            return Alignment(named)
    shorter = min(len(clean), len(corrupt))
    if len(clean) == len(corrupt):
        return Alignment((place, place) for place in range(shorter))
    begin = next((place for place in range(shorter) if clean[place] != corrupt[place]), shorter)
    end = next((n for n in range(shorter - begin) if clean[-1 - n] != corrupt[-1 - n]), shorter - begin)
    ends = [(len(clean) - 1 - n, len(corrupt) - 1 - n) for n in range(end)]
    return Alignment([*((place, place) for place in range(begin)), *ends])
