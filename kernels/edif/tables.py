"""Lists that look like a table, in a terminal and in a notebook, light or dark.

Used by :mod:`edif.serving`, :mod:`edif.submitted` and :mod:`edif.keeping`; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import ClassVar, TypeVar

T = TypeVar("T")

# No colours: text and background stay those of the notebook's theme.
_CELL = "text-align:left;white-space:pre-wrap;vertical-align:top"


class Table(list[T]):
    """A list whose kind says its columns and how to fill them."""

    COLUMNS: ClassVar[tuple[str, ...]]
    EMPTY: ClassVar[str]  #: what is said instead of a table without rows

    def rows(self) -> Iterable[tuple[str, ...]]:
        """The cells of each entry, as text."""
        raise NotImplementedError

    def __repr__(self) -> str:
        if not self:
            return self.EMPTY
        rows = [self.COLUMNS, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.COLUMNS))]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>{escape(self.EMPTY)}</p>"
        head = "".join(f"<th scope='col' style='{_CELL}'>{name}</th>" for name in self.COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td style='{_CELL}'>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
