"""Results that were shown in this kernel, by the name that their view has for them: ``edif.shown("3f9c…")``.

A click in a view writes such a line of code into the cell below and runs it.  A name is made of what a result is of, so
it is the same when the notebook is run again.  Used by :class:`edif.result.Result`; lives in the user's process.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from edif.errors import EdifError

#: Older ones are forgotten: they hold their arrays.
_MOST = 64
#: What differs from run to run of the same thing.
_OF_THE_MOMENT = ("made", "server_seconds", "versions")
_shown: OrderedDict[str, Any] = OrderedDict()
_models: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


class NotShown(EdifError):
    """This kernel does not know the result, or the model that made it."""


def remember(kind: str, provenance: Mapping[str, Any], result: Any) -> str:
    """Keep a result that is shown; gives its name."""
    lasting = {name: value for name, value in provenance.items() if name not in _OF_THE_MOMENT}
    told = json.dumps([kind, lasting], sort_keys=True, default=str)
    name = hashlib.sha256(told.encode()).hexdigest()[:12]
    _shown[name] = result
    _shown.move_to_end(name)
    while len(_shown) > _MOST:
        _shown.popitem(last=False)
    return name


def shown(name: str) -> Any:
    """The result that is shown under this name.

    Raises:
        NotShown: not in this kernel.
    """
    if name not in _shown:
        raise NotShown("That result is not in this kernel any more: run the cell that made it, then this one.")
    return _shown[name]


def used(name: str, model: Any) -> None:
    """A model has made a result."""
    _models[name] = model


def model_of(provenance: Mapping[str, Any]) -> Any:
    """The model that made a result with this provenance.

    Raises:
        NotShown: it was not used in this kernel.
    """
    name = str(provenance.get("model", ""))
    if name not in _models:
        raise NotShown(f"The model {name} has not been used in this kernel: load it, or give it as model=….")
    return _models[name]
