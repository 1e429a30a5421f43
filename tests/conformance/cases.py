"""What a conformance case is: one construct of nnsight, run locally and through the gateway, with one answer.

A case is a plain function ``(model, remote) -> value`` in a ``cases_*.py`` file beside this one (nnsight reads the
source of a block from disk).  :mod:`compare` runs each with ``remote=False`` on loaded weights and with ``remote=True``
on a model without weights, in one client process, and compares bit for bit; ``table.py`` lists them for the docs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PROMPT = "The Eiffel Tower is in the city of"
OTHER = "When Mary and John went to the store"
SHORT = "She said hello"


@dataclass(frozen=True)
class Case:
    """One construct and what is expected of it."""

    group: str
    title: str
    run: Callable[[Any, Any], Any]
    raises: str = ""  #: name of the exception that the block raises
    line: str = ""  #: the user's line that the remote error must show
    tells: tuple[str, ...] = ()  #: what must be written locally and arrive as LOG
    alone: bool = False  #: asserts by itself, remotely only: there is nothing local to compare with
    spoils: bool = False  #: changes the local model, which is loaded again afterwards
    deviation: str = ""  #: why the answers differ, where they are known to


CASES: dict[str, Case] = {}


def case(group: str, title: str, **expected: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function; its name is the name of the case."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(expected.get("tells"), str):
            expected["tells"] = (expected["tells"],)
        assert run.__name__ not in CASES, f"two cases are called {run.__name__}"
        CASES[run.__name__] = Case(group, title, run, **expected)
        return run

    return register


#: Makes a model as the case's side has it, with other arguments; set by :mod:`compare`.
make_model: Callable[..., Any]
