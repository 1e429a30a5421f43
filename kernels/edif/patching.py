"""``edif.activation_patching(model, clean, corrupt, answer)``: which activations carry the difference of prompts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from edif import asked, beside, outputs, shown_results
from edif.alignment import Alignment, of_pair
from edif.engine import patches
from edif.engine.decoder import SITES, Paths
from edif.engine.metrics import METRICS
from edif.engine.sweeps import BATCH_BYTES
from edif.intervals import bootstrap
from edif.logit_lens import LogitLens
from edif.pairs import DIRECTIONS, check_patterns, prompt_pairs
from edif.patched import patched_lens
from edif.patching_map import Map
from edif.patching_output import forms
from edif.result import Result

#: Below this difference of clean and corrupt run, as a part of the larger of both, effects are undefined.
_TINY = 1e-6


class ActivationPatching(Result):
    """Effects of patching, by pair, direction and metric.

    :attr:`data` has one array for each site, axes (pair, direction, metric, layer, position[, head]): the metric in the
    patched run.  Position is one of the run that is changed; its tokens are the coordinate ``token``.  Cells that could
    not be aligned, or were not asked for, are not-a-number.  ``clean`` and ``corrupt`` (pair, direction, metric) are
    the baselines.
    """

    kind = "activation_patching"
    title: ClassVar[str] = "Activation patching"
    sources: ClassVar[tuple[str, ...]] = (
        "Heimersheim & Nanda (2024): How to use and interpret activation patching. arXiv:2404.15255.",
        "Zhang & Nanda (2024): Towards Best Practices of Activation Patching in Language Models. arXiv:2309.16042.",
    )

    def effect(
        self, site: str | None = None, *, metric: str = "logit_difference", direction: str | None = None,
        normalised: bool = True,
    ) -> xr.DataArray:  # fmt: skip
        """One site's effects: (pair, layer, position[, head]).

        Normalised: ``(x − corrupt) / (clean − corrupt)``, 0 for the corrupt run and 1 for the clean one.  Where both
        hardly differ this is undefined, and not-a-number.

        Raises:
            KeyError: no such site, metric or direction in this result.
        """
        chosen = site or self.sites[0]
        if chosen not in self.sites:
            raise KeyError(f"{chosen!r} was not patched: there is {', '.join(self.sites)}.")
        where = {"metric": metric, "direction": direction or str(self.data["direction"].values[0])}
        for axis, name in where.items():
            if name not in self.data[axis].values:
                raise KeyError(f"There is no {axis} {name!r}: there is {', '.join(self.data[axis].values)}.")
        found = self.data.sel(where)
        values = found[chosen]
        if not normalised:
            return values
        return (values - found["corrupt"]) / self.span().sel(where)

    def span(self) -> xr.DataArray:
        """What clean and corrupt run differ by, (pair, direction, metric); not-a-number where they hardly do."""
        clean, corrupt = self.data["clean"], self.data["corrupt"]
        largest = np.maximum(np.maximum(abs(clean), abs(corrupt)), 1.0)
        return (clean - corrupt).where(abs(clean - corrupt) > _TINY * largest)

    def alignment(self, pair: int = 0) -> Alignment:
        """Which positions of a pair's prompts correspond, to be looked at, and changed for another run.

        Its ``edited(add=[(clean position, corrupt position)], drop=…)`` is what ``alignment=`` of the method takes.
        """
        return of_pair(self.provenance["pairs"][pair])

    @property
    def sites(self) -> list[str]:
        """What was patched."""
        return [site for site in SITES if site in self.data]

    def mean(self, site: str | None = None, *, level: float = 0.95, seed: int = 0, **chosen: Any) -> xr.Dataset:
        """Mean effect over pairs and its bootstrap interval: ``mean``, ``low``, ``high`` and how many ``pairs`` count.

        Args:
            level: of the interval, by resampling pairs (percentiles of 2,000 means).
            chosen: ``metric``, ``direction`` and ``normalised``, as in :meth:`effect`.
        """
        values = self.effect(site, **chosen)
        one = values.isel(pair=0).reset_coords(("token", "token_id"), drop=True)
        figures = zip(("mean", "low", "high"), bootstrap(values, level, seed), strict=True)
        return xr.Dataset({name: one.copy(data=figure) for name, figure in figures} | {"pairs": values.count("pair")})

    def table(self) -> str:
        """The first pair's normalised effects at the first site; heads as the strongest of each place."""
        effect = self.effect(metric=str(self.data["metric"].values[0])).isel(pair=0)
        extra = [axis for axis in effect.dims if axis not in ("layer", "position")]
        # of heads, the one with the largest effect, with its sign
        strongest = effect.isel(abs(effect).fillna(0).argmax(extra)) if extra else effect
        cells = [[outputs.figure(value) for value in row] for row in strongest.values]
        known, way = self.provenance, str(self.data["direction"].values[0])
        pair = known["pairs"][0]
        caption = (
            f"{self.title}, {self.sites[0]}, {way} · {known['model']} · clean “{pair['clean']}” · "
            f"corrupt “{pair['corrupt']}”"
        )
        columns, layers = self.data["token"][0, 0].values.tolist(), self.data["layer"].values.tolist()
        columns = ["all positions"] if known.get("positions") == "together" else columns
        foot = f"effect on {self.data['metric'].values[0]}: 0 as the corrupt run, 1 as the clean one"
        return outputs.table(caption, layers, columns, cells, foot + (", strongest head" if extra else ""))

    def patched_lens(
        self, layer: int, position: int, *, source: Sequence[int] | None = None, site: str | None = None,
        head: int | None = None, direction: str | None = None, pair: int = 0, top: int = 10, model: Any = None,
        remote: bool | str | None = None, progress: bool = True,
    ) -> LogitLens:  # fmt: skip
        """What every layer of the patched run would say, as a logit lens: one cell of the map, looked into.

        Args:
            position: of the run that is changed, as in the map.
            source: layer and position (in the same run) whose counterpart is put there, instead of the same place's;
                of another head where a third number names one.
            site, head, direction, pair: which map; the first by default.
            model: by default the one that has made this result in this kernel.

        Raises:
            ValueError: a position without a counterpart, a layer or head that is not there, or a head that is missing.
            NotShown: the model has not been used in this kernel.
        """
        way, known = direction or str(self.data["direction"].values[0]), self.provenance
        used = shown_results.model_of(known) if model is None else model
        return patched_lens(
            used, known["pairs"][pair], way, (layer, position), source, site or self.sites[0], head, top,
            known.get("parts"), remote=remote, progress=progress,
        )  # fmt: skip

    def _forms(self) -> Iterator[dict[str, Any]]:
        return forms(self)

    def __repr__(self) -> str:
        sizes = self.data.sizes
        return (
            f"<{self.title.lower()} of {', '.join(self.sites)}: {sizes['pair']} pairs, {sizes['layer']} layers, "
            f"{sizes['position']} positions, {', '.join(self.data['direction'].values)}>"
        )


def activation_patching(
    model: Any,
    clean: str | Sequence[str],
    corrupt: str | Sequence[str],
    answer: tuple[int | str, int | str] | Sequence[tuple[int | str, int | str]],
    *,
    sites: str | Sequence[str] = "residual",
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | str | None = None,
    direction: str = "denoise",
    metric: Callable[[torch.Tensor], torch.Tensor] | None = None,
    alignment: Alignment | Sequence[Alignment] | None = None,
    path: Paths = None,
    batch_tokens: int | None = None,
    batch_bytes: int = BATCH_BYTES,
    remote: bool | str | None = None,
    progress: bool = True,
) -> ActivationPatching:
    """Put activations of one prompt's run into another's, place by place, and see what the model then says.

    (Heimersheim & Nanda 2024.)  One job for the whole map, whatever it is of.  Cells before the first difference of two
    prompts are not computed: there patching changes nothing.

    Args:
        clean: a prompt, or several.
        corrupt: as many, each differing from its clean prompt where it matters, of the same number of tokens by
            preference; others are aligned by what they begin and end with (see :func:`edif.align`).
        answer: the token that the clean prompt asks for, and the one that the corrupt prompt asks for; of each pair, or
            one for all.
        sites: of ``residual_pre``, ``residual_mid``, ``residual``, ``attention``, ``mlp``, ``head`` (outputs of single
            heads), ``q``, ``k``, ``v`` (keys and values: of groups of heads, where they are shared), ``pattern`` (where
            a head looks, with the values that it finds there left as they are).
        layers: which; all by default.
        positions: of the run that is changed; all by default, ``"together"`` for all at once in one cell.
        direction: ``denoise`` (clean activations into the corrupt run: what suffices), ``noise`` (corrupt ones into the
            clean run: what is necessary), or ``both``.  The two are not symmetric.
        metric: one of your own beside the others: of logits (rows, vocabulary), a value for each row.
        alignment: which positions correspond, where the default is not what you mean.
        path: as in :func:`edif.logit_lens`.
        batch_tokens, batch_bytes, remote: as in :func:`edif.sweep`.

    Raises:
        ValueError: unequal numbers of prompts, an answer that is not one token, prompts with nothing to align, or an
            unknown site.
    """
    pairs = prompt_pairs(model, clean, corrupt, answer, alignment)
    chosen = [sites] if isinstance(sites, str) else list(sites)
    asked.one_of("site", chosen, SITES)
    ways = list(DIRECTIONS) if direction == "both" else [direction]
    asked.one_of("direction", ways, (*DIRECTIONS, "both"))
    check_patterns(chosen, pairs)
    plan = Map(model, pairs, chosen, ways, layers, positions, path)
    work = functools.partial(
        patches.patching,
        pairs=plan.runs,
        cells=plan.cells,
        everywhere=positions == "together",
        metric=metric,
        limits={"layers": path, "batch_tokens": batch_tokens, "batch_bytes": batch_bytes},
    )
    return beside.result(
        model,
        work,
        sum(map(len, plan.cells)),
        lambda found: ActivationPatching(*plan.arrays(model, found, metric, **asked.parts_known(path))),
        functools.partial(plan.known, metrics=len(METRICS) + (metric is not None)),
        remote=remote,
        progress=progress,
        what="activation patching",
    )
