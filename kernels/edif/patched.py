"""The lens of a patched run: what every layer would say once one activation of the other prompt's run is in its place.

Called by :meth:`edif.ActivationPatching.patched_lens`, which a click on a map runs; runs in the user's process.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from edif import asked, beside
from edif.alignment import of_pair
from edif.engine import lens
from edif.engine.decoder import HEADED, Paths, layers_of
from edif.engine.lens import Change
from edif.logit_lens import LogitLens, lens_of
from edif.pairs import Prompts
from edif.patching_map import head_counts


def patched_lens(
    model: Any,
    facts: Mapping[str, Any],
    direction: str,
    target: tuple[int, int],
    source: Sequence[int] | None,
    site: str,
    head: int | None,
    top: int,
    path: Paths,
    **how: Any,
) -> LogitLens:
    """The lens on the run that is changed; layers and positions are those of the map.

    Args:
        facts: of the pair, as a map's provenance holds them.
        target: layer and position that are changed.
        source: layer, position (in the run that is changed) and, of another one, head whose counterpart is put there;
            the same by default.
        path: of parts at unusual places.

    Raises:
        ValueError: a position without a counterpart, a site that is none of one place, a missing head, or a layer or
            head that is not there.
    """
    pair = Prompts(facts["clean_ids"], facts["corrupt_ids"], tuple(facts["answer"]), of_pair(facts))
    run, count = pair.run(direction), len(layers_of(model, path))
    layer, position, *other = source or target
    if position not in run.positions:
        raise ValueError(f"Position {position} has no counterpart in the other prompt, so nothing can be taken there.")
    if site == "pattern":
        raise ValueError("A pattern is no activation that could be put anywhere: choose another site.")
    if site in HEADED and head is None:
        raise ValueError(f"Of {site} name a head: head=0.")
    if site not in HEADED and (head is not None or other):
        raise ValueError(f"There are no heads at {site}.")
    heads = [] if head is None else [head, *other]
    asked.numbers("layer", [layer, target[0]], count)
    asked.numbers("head", heads or None, head_counts(model, [site])[site])
    change = Change(run.source, site, (layer, run.positions[position]), target, head, heads[-1] if heads else None)
    targets = list(facts["answer"])
    work = functools.partial(
        lens.read, prompts=[run.ids], site="residual", layers=None, stride=1, positions=None,
        targets=targets, top=top, tuned=None, path=path, change=change,
    )  # fmt: skip
    part = site if head is None else f"{site} {head}"
    of_head = f", {'group' if site in ('k', 'v') else 'head'} {other[0]}" if other else ""
    taken = "" if source in (None, target) else f" with that of layer {layer}, position {position}{of_head}"
    where = f"{part} of layer {target[0]}, position {target[1]}, patched{taken} ({direction})"
    said = {"site": "residual", "stride": 1, "tuned": False, "layer_count": count, "patched": where}
    return beside.result(
        model, work, count, lambda found: lens_of(model, [run.ids], targets, None, found, **said),
        what="patched lens", **how,
    )  # fmt: skip
