"""``edif.activation_patching(model, clean, corrupt, answer)``: which activations carry the difference of prompts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from edif import beside, outputs
from edif.alignment import Alignment, align
from edif.engine import patches
from edif.engine.decoder import HEADED, SITES, layers_of
from edif.engine.patches import METRICS, Pair
from edif.engine.sweeps import Cell
from edif.logit_lens import single_token
from edif.patching_output import forms
from edif.result import Result, begins_with_bos, provenance, token_texts

DIRECTIONS = ("denoise", "noise")
#: Below this difference of clean and corrupt run, as a part of the larger of both, effects are undefined.
_TINY = 1e-6
_BATCH_BYTES = 1 << 30
#: Runs of (clean, corrupt) whose effects are drawn anew, for an interval.
_BOOTSTRAPS = 2000


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
        draw = np.random.default_rng(seed).integers(0, values.sizes["pair"], (_BOOTSTRAPS, values.sizes["pair"]))
        held = values.values
        with np.errstate(invalid="ignore"):
            weights = np.stack([np.bincount(row, minlength=len(held)) for row in draw]).astype(float)
            known = ~np.isnan(held)
            sums = np.tensordot(weights, np.where(known, held, 0.0), 1)
            counts = np.tensordot(weights, known.astype(float), 1)
            means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        tail = (1 - level) / 2
        low, high = _quantiles(means, (tail, 1 - tail))
        axes = values.dims[1:]
        mean = values.mean("pair", skipna=True)
        return xr.Dataset(
            {"mean": mean, "low": (axes, low), "high": (axes, high), "pairs": values.notnull().sum("pair")}
        )

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
    path: str | None = None,
    batch_tokens: int | None = None,
    batch_bytes: int = _BATCH_BYTES,
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
        path, batch_tokens, batch_bytes, remote: as in :func:`edif.sweep`.

    Raises:
        ValueError: unequal numbers of prompts, an answer that is not one token, prompts with nothing to align, or an
            unknown site.
    """
    tokenizer = model.tokenizer
    pairs = prompt_pairs(tokenizer, clean, corrupt, answer, alignment)
    chosen = [sites] if isinstance(sites, str) else list(sites)
    if unknown := [site for site in chosen if site not in SITES]:
        raise ValueError(f"There is no site {unknown[0]!r}: choose from {', '.join(SITES)}.")
    ways = list(DIRECTIONS) if direction == "both" else [direction]
    if unknown := [way for way in ways if way not in DIRECTIONS]:
        raise ValueError(f"There is no direction {unknown[0]!r}: choose denoise, noise or both.")
    if "pattern" in chosen and any(one != other for pair in pairs for one, other in pair.alignment.pairs):
        raise ValueError(
            "A pattern has a weight for each position: it is patched between prompts of equal length only."
        )
    plan = Map(model, pairs, chosen, ways, layers, positions, path)
    work = functools.partial(
        patches.patching,
        pairs=plan.runs,
        cells=plan.cells,
        everywhere=positions == "together",
        metric=metric,
        limits={"layers": path, "batch_tokens": batch_tokens, "batch_bytes": batch_bytes},
    )
    found = beside.run(model, work, sum(map(len, plan.cells)), remote=remote, progress=progress)
    return plan.result(model, found, metric)


class Map:
    """The cells of all pairs and directions, and the way back from values to arrays."""

    def __init__(
        self,
        model: Any,
        pairs: list[Prompts],
        sites: list[str],
        ways: list[str],
        layers: Sequence[int] | None,
        positions: Sequence[int] | str | None,
        path: str | None,
        reaches: Callable[[Cell, Pair], bool] = lambda cell, run: True,
    ) -> None:
        count = len(layers_of(model, path))
        self._reaches = reaches
        self._parts = head_counts(model, sites)
        self._pairs, self._sites, self._ways = pairs, [site for site in SITES if site in sites], ways
        self._layers = sorted({layer % count for layer in layers}) if layers is not None else list(range(count))
        self._together = positions == "together"
        self.runs: list[Pair] = []
        self.cells: list[list[Cell]] = []
        self._same: list[list[tuple[Cell, bool]]] = []
        for pair in pairs:
            for way in ways:
                run = pair.run(way)
                every = positions is None or isinstance(positions, str)
                self._add(run, None if every else {int(place) % len(run.ids) for place in positions or ()})

    def _add(self, run: Pair, asked: set[int] | None) -> None:
        first = next((p for p, (a, b) in enumerate(zip(run.ids, run.source, strict=False)) if a != b), len(run.ids))
        places = sorted(p for p in run.positions if asked is None or p in asked)
        if self._together:
            places = places[:1]
        equal = set() if self._together else {p for p in places if p < first and run.positions[p] == p}
        cells = [
            (cell := Cell(layer, place, site, head), place in equal or not self._reaches(cell, run))
            for site in self._sites
            for layer in self._layers
            for place in places
            for head in (range(self._parts[site]) if self._parts[site] else (None,))
        ]
        self.runs.append(run)
        self._same.append(cells)
        self.cells.append([cell for cell, same in cells if not same])

    def result(self, model: Any, found: dict[str, Any], metric: Callable[..., Any] | None) -> ActivationPatching:
        """Arrays out of values."""
        return ActivationPatching(*self.arrays(model, found, metric))

    def arrays(
        self, model: Any, found: dict[str, Any], metric: Callable[..., Any] | None, **known: Any
    ) -> tuple[xr.Dataset, dict[str, Any]]:
        """Data and provenance of a result; ``known`` is what else its provenance says."""
        names = [*METRICS, *([getattr(metric, "__name__", "own")] if metric is not None else [])]
        pairs, ways = len(self._pairs), len(self._ways)
        length = 1 if self._together else max(len(run.ids) for run in self.runs)
        shape = (pairs, ways, len(names), len(self._layers), length)
        arrays = {s: np.full((*shape, self._parts[s]) if self._parts[s] else shape, np.nan) for s in self._sites}
        bases = {name: np.full((pairs, ways, len(names)), np.nan) for name in ("clean", "corrupt")}
        tokens = np.full((pairs, ways, length), -1)
        for number, run in enumerate(self.runs):
            at = divmod(number, ways)
            changed, source = found["changed"][number].numpy(), found["source"][number].numpy()
            denoise = self._ways[at[1]] == "denoise"
            bases["clean"][at], bases["corrupt"][at] = (source, changed) if denoise else (changed, source)
            tokens[at][: len(run.ids)] = run.ids[:length]
            values = iter(found["values"][number].numpy() if len(self.cells[number]) else [])
            for cell, same in self._same[number]:
                value = changed if same else next(values)
                place = 0 if self._together else cell.position
                where = (*at, slice(None), self._layers.index(cell.layer), place)
                arrays[cell.site][where if cell.head is None else (*where, cell.head)] = value
        axes = ("pair", "direction", "metric", "layer", "position")
        heads = {s: "group" if s in ("k", "v") else "head" for s in self._sites}
        data = xr.Dataset(
            {
                **{s: ((*axes, heads[s]) if self._parts[s] else axes, arrays[s]) for s in self._sites},
                **{name: (("pair", "direction", "metric"), value) for name, value in bases.items()},
            },
            {
                "direction": self._ways,
                "metric": names,
                "layer": self._layers,
                "token_id": (("pair", "direction", "position"), tokens),
                "token": (("pair", "direction", "position"), token_texts(model.tokenizer, tokens)),
            },
        )
        facts = [pair.facts(model.tokenizer) for pair in self._pairs]
        more = {"positions": "together"} if self._together else {}
        formula = "(x − corrupt) / (clean − corrupt)"
        return data, provenance(model, found, pairs=facts, normalised=formula, **more, **known)


class Prompts:
    """One clean and one corrupt prompt, and which positions correspond."""

    def __init__(self, clean: list[int], corrupt: list[int], answer: tuple[int, int], alignment: Alignment) -> None:
        self.clean, self.corrupt, self.answer, self.alignment = clean, corrupt, answer, alignment

    def run(self, way: str) -> Pair:
        """The run that is changed and the one that it is changed by."""
        if way == "denoise":
            return Pair(self.corrupt, self.clean, self.clean, self.alignment.backward(), *self.answer)
        return Pair(self.clean, self.corrupt, self.clean, self.alignment.forward(), *self.answer)

    def facts(self, tokenizer: Any) -> dict[str, Any]:
        """What a reader must know of it."""
        return {
            "clean": tokenizer.decode(self.clean),
            "corrupt": tokenizer.decode(self.corrupt),
            "clean_ids": self.clean,
            "corrupt_ids": self.corrupt,
            "answer": list(self.answer),
            "answer_tokens": [str(text) for text in token_texts(tokenizer, np.array(self.answer))],
            "aligned": [list(pair) for pair in self.alignment.pairs],
            "bos": begins_with_bos(tokenizer, self.clean),
        }


def prompt_pairs(tokenizer: Any, clean: Any, corrupt: Any, answer: Any, alignment: Any) -> list[Prompts]:
    """Pairs of prompts out of what a user gives: texts or token ids.

    Raises:
        ValueError: unequal numbers, or an answer that is not one token.
    """
    clean, corrupt = ([texts] if isinstance(texts, str) else list(texts) for texts in (clean, corrupt))
    if len(clean) != len(corrupt) or not clean:
        raise ValueError(
            f"There are {len(clean)} clean and {len(corrupt)} corrupt prompts: each needs its counterpart."
        )
    answers = [answer] * len(clean) if isinstance(answer, tuple) else list(answer)
    alignments = list(alignment) if isinstance(alignment, Sequence) else [alignment] * len(clean)
    if len(answers) != len(clean) or len(alignments) != len(clean):
        raise ValueError(f"{len(clean)} pairs need as many answers and alignments, or one for all.")
    pairs = []
    for good, bad, asked, given in zip(clean, corrupt, answers, alignments, strict=True):
        ids = (tokenizer(text).input_ids if isinstance(text, str) else text for text in (good, bad))
        here, there = (list(map(int, row)) for row in ids)
        right, wrong = (single_token(tokenizer, token) for token in asked)
        pairs.append(Prompts(here, there, (right, wrong), given or align(here, there)))
    return pairs


def head_counts(model: Any, sites: Sequence[str]) -> dict[str, int]:
    """How many heads (or groups of heads) each site has; 0 for those that have none."""
    config = model._module.config.get_text_config()
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    return {site: (groups if site in ("k", "v") else heads) if site in HEADED else 0 for site in sites}


def _quantiles(values: np.ndarray[Any, Any], at: tuple[float, float]) -> Any:
    """Quantiles over the first axis; not-a-number where nothing is known."""
    known = ~np.isnan(values).all(0)
    found = np.full((2, *values.shape[1:]), np.nan)
    found[:, known] = np.nanquantile(values[:, known], at, axis=0)
    return found
