"""Orders: "load this model", "let it go", from the operator's command line to the dispatcher.

An order is a file in a folder, written whole and taken once.  It asks for something now; what is to hold for good
(``pinned``) stands in ``models.toml``.  Orders are worthless once everything is stopped, so they lie in ``run/``.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Act = Literal["deploy", "evict"]


@dataclass(frozen=True, slots=True)
class Order:
    """One wish about one model."""

    act: Act
    model: str


class Orders:
    """The orders of one installation, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, order: Order) -> None:
        """Leave an order for the dispatcher."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        draft = self._folder / f".{name}"
        draft.write_text(json.dumps(asdict(order)), encoding="utf-8")
        draft.rename(self._folder / f"{name}.json")

    def take(self) -> list[Order]:
        """Every order that is there, the oldest first; each is given out once."""
        taken = []
        for path in sorted(self._folder.glob("*.json")):
            text = path.read_text(encoding="utf-8")
            path.unlink()
            taken.append(Order(**json.loads(text)))
        return taken
