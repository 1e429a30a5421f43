"""``edif.attribution_patching(model, clean, corrupt, answer)``: every cell of a patching map at once, approximately."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from edif import asked, beside, outputs, patching_output
from edif.alignment import Alignment, of_pair
from edif.engine import gradients
from edif.engine.decoder import SITES, Paths
from edif.engine.patches import Pair
from edif.pairs import Prompts, check_patterns, prompt_pairs
from edif.patching import ActivationPatching, activation_patching
from edif.patching_map import head_counts
from edif.result import Result, padded_tokens, provenance, token_axes
from edif.shown_results import model_of

_APPROXIMATE = "Approximate: a first-order estimate. Check the top cells with .refine(model)."
#: Correlation with exact patching on eight IOI prompts and GPT-2 small (Nanda 2023, and METHODS figures): below .8 a
#: map of these sites misleads.
MISLEADING = {"residual_pre": 0.735, "residual_mid": 0.735, "residual": 0.735, "mlp": 0.436}


class RefinedCells(list[dict[str, Any]]):
    """Cells with their estimate and what patching them exactly gives; a table where a notebook shows them."""

    def _repr_html_(self) -> str:
        names = [
            f"{cell['site']} {cell['layer']}" + ("" if cell["head"] is None else f".{cell['head']}") for cell in self
        ]
        rows = [
            [str(cell["position"]), outputs.figure(cell["estimate"]), outputs.figure(cell["exact"])] for cell in self
        ]
        columns = ["position", "estimate", "exact"]
        caption = "Attribution patching, the largest estimates patched exactly"
        return outputs.table(caption, names[::-1], columns, rows[::-1], "effects: 1 restores the clean run", "cell")


class AttributionPatching(Result):
    """Estimated effects of patching; **approximate**.

    :attr:`data` has one array for each site, axes (pair, layer, position[, head]): the estimated change of the logit
    difference, in units of the difference between clean and corrupt run (so 1 would restore the clean run).  ``clean``
    and ``corrupt`` (pair) are the logit differences.
    """

    kind = "attribution_patching"
    sources: ClassVar[tuple[str, ...]] = (
        "Nanda (2023): Attribution Patching: Activation Patching At Industrial Scale. neelnanda.io.",
        "Syed, Rager & Conmy (2023): Attribution Patching Outperforms Automated Circuit Discovery. arXiv:2310.10348.",
    )

    @property
    def warning(self) -> str:
        """What a reader must know; empty where the approximation is known to be good."""
        bad = [site for site in self.sites if site in MISLEADING]
        if not bad:
            return ""
        known = ", ".join(f"{site} {MISLEADING[site]}" for site in bad)
        return (
            f"Approximate, and known to mislead at {', '.join(bad)}: correlation with exact patching on GPT-2 small, "
            f"IOI: {known} (head 0.983). Check the top cells with .refine(model)."
        )

    @property
    def sites(self) -> list[str]:
        """What was estimated."""
        return [site for site in SITES if site in self.data]

    def alignment(self, pair: int = 0) -> Alignment:
        """Which positions of a pair's prompts correspond, as in :meth:`edif.ActivationPatching.alignment`."""
        return of_pair(self.provenance["pairs"][pair])

    def top(self, count: int = 10, pair: int = 0) -> list[tuple[str, int, int, int | None, float]]:
        """The cells with the largest estimates of either sign: site, layer, position, head and estimate."""
        cells: list[tuple[str, int, int, int | None, float]] = []
        layers = self.data["layer"].values.tolist()
        for site in self.sites:
            values = self.data[site].values[pair]
            for place in np.argwhere(~np.isnan(values)).tolist():
                head = place[2] if len(place) > 2 else None
                cells.append((site, layers[place[0]], place[1], head, float(values[tuple(place)])))
        return sorted(cells, key=lambda cell: -abs(cell[-1]))[:count]

    def refine(self, model: Any = None, count: int = 10, pair: int = 0, **how: Any) -> RefinedCells:
        """The top cells again, patched exactly: site, layer, position, head, ``estimate`` and ``exact``.

        Args:
            model: by default the one that made this result, where this kernel knows it.
            how: ``remote``, ``progress`` and the limits of :func:`edif.activation_patching`.
        """
        model = model_of(self.provenance) if model is None else model
        facts = self.provenance["pairs"][pair]
        how = {"path": self.provenance.get("parts"), **how}
        top = self.top(count, pair)
        found: list[dict[str, Any]] = []
        for site in dict.fromkeys(cell[0] for cell in top):
            some = [cell for cell in top if cell[0] == site]
            exact: ActivationPatching = activation_patching(
                model,
                [facts["clean_ids"]],
                [facts["corrupt_ids"]],
                tuple(facts["answer"]),
                sites=site,
                layers=sorted({cell[1] for cell in some}),
                positions=sorted({cell[2] for cell in some}),
                alignment=of_pair(facts),
                **how,
            )
            effect = exact.effect(site)[0]
            for _, layer, position, head, estimate in some:
                value = effect.sel(layer=layer).isel(position=position)
                number = float(value if head is None else value[head])
                found.append(
                    {
                        "site": site,
                        "layer": layer,
                        "position": position,
                        "head": head,
                        "estimate": estimate,
                        "exact": number,
                    }
                )
        return RefinedCells(sorted(found, key=lambda cell: -abs(cell["estimate"])))

    def _forms(self) -> Iterator[dict[str, Any]]:
        for form in patching_output.forms(self._as_map()):
            yield {**form, "title": "Attribution patching", "approximate": self.warning or _APPROXIMATE}

    def _as_map(self) -> ActivationPatching:
        """The estimates as a map of one direction and one metric: the logit difference each cell would leave."""
        data, axes = self.data, ("pair", "direction", "metric", "layer", "position")
        known = {name: data[name] for name in ("clean", "corrupt")}
        left = {site: known["corrupt"] + data[site] * (known["clean"] - known["corrupt"]) for site in self.sites}
        arrays: dict[str, Any] = {}
        for name, one in {**left, **known}.items():
            whole = one.expand_dims(direction=["denoise"], metric=["logit_difference"])
            whole = whole.transpose(*[axis for axis in axes if axis in whole.dims], ...)
            arrays[name] = (whole.dims, whole.values)
        tokens = {name: (axes[:2] + axes[-1:], data[name].values[:, None]) for name in ("token_id", "token")}
        named = {"direction": ["denoise"], "metric": ["logit_difference"], "layer": data["layer"].values, **tokens}
        return ActivationPatching(xr.Dataset(arrays, named), self.provenance, self.view)

    def __repr__(self) -> str:
        sizes = self.data.sizes
        shape = f"{sizes['pair']} pairs, {sizes['layer']} layers, {sizes['position']} positions"
        return "\n".join(
            filter(None, [f"<attribution patching (approximate) of {', '.join(self.sites)}: {shape}>", self.warning])
        )


def attribution_patching(
    model: Any,
    clean: str | Sequence[str],
    corrupt: str | Sequence[str],
    answer: tuple[int | str, int | str] | Sequence[tuple[int | str, int | str]],
    *,
    sites: str | Sequence[str] = "head",
    layers: Sequence[int] | None = None,
    alignment: Any = None,
    path: Paths = None,
    remote: bool | str | None = None,
    progress: bool = True,
) -> AttributionPatching:
    """Estimate what denoising each cell would do: two forward passes and one backward pass in all.

    (Nanda 2023.)  The metric is the logit difference.  A first-order approximation: good for heads and values,
    misleading for MLPs and the residual stream, which the result says (``warning``); ``refine`` patches the top cells
    exactly.

    Args:
        clean, corrupt, answer, alignment, layers, path, remote: as in :func:`edif.activation_patching`.
        sites: of those that can be patched.

    Raises:
        ValueError: as :func:`edif.activation_patching` does.
    """
    pairs = prompt_pairs(model, clean, corrupt, answer, alignment)
    chosen = [sites] if isinstance(sites, str) else [site for site in SITES if site in sites]
    asked.one_of("site", [sites] if isinstance(sites, str) else sites, SITES)
    check_patterns(chosen, pairs)
    places = asked.layers(model, layers, path)
    runs = [pair.run("denoise") for pair in pairs]
    work = functools.partial(gradients.attribution, pairs=runs, sites=chosen, layers=places, path=path)
    return beside.result(
        model,
        work,
        len(runs),
        lambda found: _result(model, pairs, runs, chosen, places, found, asked.parts_known(path)),
        functools.partial(_known, sites=chosen),
        remote=remote,
        progress=progress,
        what="attribution patching",
    )


def _known(told: beside.Telling, sites: list[str]) -> dict[str, Any] | None:
    """What comes back of a job, as far as it was told of by now: the first pairs that are done."""
    found: dict[str, Any] = {"values": [], "changed": [], "source": []}
    while (base := told.bases.get(len(found["values"]))) is not None:
        found["values"].append({site: base[site] for site in sites})
        for name in ("changed", "source"):
            found[name].append(float(base[name]))
    return found if found["values"] else None


def _result(
    model: Any,
    pairs: list[Prompts],
    runs: list[Pair],
    chosen: list[str],
    places: list[int],
    found: dict[str, Any],
    how: dict[str, Any],
) -> AttributionPatching:
    done = len(found["values"])  # of an interrupted job there are fewer pairs
    pairs, runs = pairs[:done], runs[:done]
    length = max(len(run.ids) for run in runs)
    parts = head_counts(model, chosen)
    arrays = {
        site: np.full((len(runs), len(places), length, *([parts[site]] if parts[site] else [])), np.nan)
        for site in chosen
    }
    for number, run in enumerate(runs):
        span = found["source"][number] - found["changed"][number]
        for site in chosen:
            arrays[site][number, :, : len(run.ids)] = found["values"][number][site].numpy() / (span or np.nan)
    axes = ("pair", "layer", "position")
    heads = {site: "group" if site in ("k", "v") else "head" for site in chosen}
    data = xr.Dataset(
        {
            **{site: ((*axes, heads[site]) if parts[site] else axes, arrays[site]) for site in chosen},
            "clean": ("pair", np.array(found["source"])),
            "corrupt": ("pair", np.array(found["changed"])),
        },
        {
            "layer": places,
            **token_axes(model.tokenizer, padded_tokens([run.ids for run in runs]), ("pair", "position")),
        },
    )
    facts = [pair.facts(model.tokenizer) for pair in pairs]
    bases = [np.asarray([found[name]]) for name in ("changed", "source")]
    cells = [
        part[site].numpy()[:, list(run.positions)].ravel()
        for part, run in zip(found["values"], runs, strict=True)
        for site in chosen
    ]
    if notes := outputs.not_finite(["logit difference"], bases, cells):
        how = {**how, "notes": notes}
    return AttributionPatching(data, provenance(model, found, pairs=facts, approximate=True, **how))
