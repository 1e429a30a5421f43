"""The lens of a patched run: what every layer would say once one activation of the other prompt's run is in its place.

Called by :meth:`edif.ActivationPatching.patched_lens`, which a click on a map runs; runs in the user's process.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from edif import beside
from edif.alignment import of_pair
from edif.engine import lens
from edif.engine.decoder import HEADED, layers_of
from edif.engine.lens import Change
from edif.logit_lens import LogitLens, lens_of
from edif.pairs import Prompts


def patched_lens(
    model: Any,
    facts: Mapping[str, Any],
    direction: str,
    target: tuple[int, int],
    source: tuple[int, int] | None,
    site: str,
    head: int | None,
    top: int,
    **how: Any,
) -> LogitLens:
    """The lens on the run that is changed; layers and positions are those of the map.

    Args:
        facts: of the pair, as a map's provenance holds them.
        target: layer and position that are changed.
        source: layer and position, in the run that is changed, whose counterpart is put there; the same by default.

    Raises:
        ValueError: a position without a counterpart, a site that is none of one place, a missing head.
    """
    pair = Prompts(facts["clean_ids"], facts["corrupt_ids"], tuple(facts["answer"]), of_pair(facts))
    run = pair.run(direction)
    layer, position = source or target
    if position not in run.positions:
        raise ValueError(f"Position {position} has no counterpart in the other prompt, so nothing can be taken there.")
    if (site in HEADED) != (head is not None) or site == "pattern":
        raise ValueError(f"At {site} {'name a head: head=0' if head is None else 'there are no heads'}.")
    change = Change(run.source, site, (layer, run.positions[position]), target, head)
    count = len(layers_of(model, None))
    work = functools.partial(
        lens.read, prompts=[run.ids], site="residual", layers=None, stride=1, positions=None,
        targets=list(facts["answer"]), top=top, tuned=None, path=None, change=change,
    )  # fmt: skip
    part = site if head is None else f"{site} {head}"
    taken = "" if source in (None, target) else f" with that of layer {layer}, position {position}"
    where = f"{part} of layer {target[0]}, position {target[1]}, patched{taken} ({direction})"
    said = {"site": "residual", "stride": 1, "tuned": False, "layer_count": count, "patched": where}
    targets = list(facts["answer"])
    return beside.result(
        model, work, count, lambda found: lens_of(model, [run.ids], targets, None, found, **said),
        what="patched lens", **how,
    )  # fmt: skip
