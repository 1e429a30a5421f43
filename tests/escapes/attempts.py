"""An attempt to get out of the jail: user code that gives something true where it succeeds.

It raises or gives something false where it is held in.  The same code runs outside the jail too, as the control that
shows that it works at all.  It is sent by value, so each brings its own imports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: What an attempt is told: paths, ports and process ids of those it is aimed at.
Scene = dict[str, Any]
Code = Callable[[Scene], Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One of them."""

    name: str
    code: Code
    needs_root: bool = False  #: the control only works for root
    then: Code | None = None  #: what is looked at in the next job (outside: in the same process)

    def __str__(self) -> str:
        return self.name


class Attempts(list[Attempt]):
    """The attempts of one file, in order."""

    def add(self, code: Code) -> Code:
        """Take a function as an attempt; its name is the attempt's."""
        self.append(Attempt(code.__name__, code))
        return code

    def for_root(self, code: Code) -> Code:
        """As :meth:`add`, for what only root can do outside."""
        self.append(Attempt(code.__name__, code, needs_root=True))
        return code

    def each(self, name: str, code: Callable[..., Any], cases: dict[str, Any], needs_root: bool = False) -> None:
        """One attempt a case: ``code(scene, case)``."""
        for label, case in cases.items():
            self.append(Attempt(f"{name} {label}", _bound(code, case), needs_root))


def _bound(code: Callable[..., Any], case: Any) -> Code:
    return lambda scene: code(scene, case)
