"""The payload of a trace, with the model's modules named instead of written out.

nnsight writes the whole tree of envoys into every payload, and the server reads it all again: for a model of 30 layers
14 ms of each trace.  The server has the same tree, so a plain one is named by its path, as nnsight itself names the
modules behind it.  Called by :mod:`edif.remote`; runs in the user's process.
"""

from __future__ import annotations

import io
from typing import Any

import zstandard
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.serialization import CustomCloudPickler, reduce_block
from nnsight.schema.request import RequestModel
from nnsight.tracing.tracer import Tracer

from edif_protocol.wire import envoy_name

#: What every envoy has of its own, besides its children.
_OWN = frozenset("_parent _module path interleaver _edits _rename _aliases _envoys _children _child_map".split())
_LEVEL = 6  # of zstd, as nnsight compresses


def serialize(tracer: Tracer, model: Any, compress: bool) -> bytes:
    """What ``RequestModel.serialize(tracer, compress)`` gives, for a server that knows envoys by name.

    Args:
        model: whose envoys are named, as far as nothing was done to them: no edit, alias, subclass or attribute.
    """
    named = _named(model)
    if not named:
        whole: bytes = RequestModel.serialize(tracer, compress)
        return whole
    assert tracer.info is not None
    frame = tracer.info.frame
    block = reduce_block(tracer.node, frame.f_globals, dict(frame.f_locals))
    file = io.BytesIO()
    _Pickler(file, named).dump((tracer, block))
    return zstandard.ZstdCompressor(level=_LEVEL).compress(file.getvalue()) if compress else file.getvalue()


class _Pickler(CustomCloudPickler):
    """nnsight's own, which also names some objects.

    Args:
        named: names by id of the object.
    """

    def __init__(self, file: io.BytesIO, named: dict[int, str]) -> None:
        super().__init__(file, protocol=4)
        self._named = named

    def persistent_id(self, obj: Any) -> Any:
        return self._named.get(id(obj)) or super().persistent_id(obj)


def _named(model: Any) -> dict[int, str]:
    """Names of the model's own children; with an adapter the server's tree is another one for the time of the job."""
    if getattr(model, "peft", None) is not None:
        return {}
    return {id(child): envoy_name(child.path) for child in model._children if _plain(child)}


def _plain(envoy: Envoy) -> bool:
    """Whether this envoy and those below it are as nnsight makes them for the model's own modules."""
    here, children = envoy.__dict__, envoy._child_map
    return (
        type(envoy) is Envoy
        and not (envoy._edits or envoy._aliases or envoy._rename or envoy._envoys)
        and len(here) == len(_OWN) + len(children)
        and len(envoy._children) == len(children)
        and all(here.get(name) is child and _plain(child) for name, child in children.items())
    )
