"""``edif.probe(model, prompts, labels)``: what can be read from a layer, and whether the model uses it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import xarray as xr

from edif import asked, beside, outputs, probing_output
from edif.engine import probes as engine
from edif.engine.decoder import Paths
from edif.engine.linear import folds as spread
from edif.engine.sweeps import BATCH_BYTES
from edif.intervals import bootstrap, wilson
from edif.result import Result, padded_tokens, prompts_known, provenance, token_axes
from edif.steering import SITES_STEERED, STRENGTHS

#: What is done along a probe's direction: pushed, the part along it taken from a prompt of the class, or all of it.
EFFECTS = ("steered", "swapped", "interchanged")


class Probe(Result):
    """How well a linear probe tells classes of prompts apart, beside what its direction does to the answers.

    Arrays of :attr:`data`: ``accuracy`` on prompts that the probe has not seen, with Wilson's interval ``low`` and
    ``high`` (layer, position); ``control`` (shuffle, layer, position), the same of probes on shuffled labels;
    ``predicted`` (prompt, layer, position), the class of an unseen prompt; ``direction`` (layer, position, towards,
    feature), of length 1.  With answers, for some prompts (cases): ``steered`` (case, layer, position, towards,
    strength), ``swapped`` and ``interchanged`` (case, layer, position, towards) and ``unchanged`` (case, towards): the
    logit of the class's answer minus the highest of the others'.  Each case is moved along the direction of a probe
    that has not seen it.  ``norm`` (layer) is the unit of strengths.
    """

    kind = "probe"
    sources: ClassVar[tuple[str, ...]] = (
        "Alain & Bengio (2016): Understanding intermediate layers using linear classifier probes. arXiv:1610.01644.",
        "Hewitt & Liang (2019): Designing and Interpreting Probes with Control Tasks. arXiv:1909.03368.",
        "Belinkov (2022): Probing Classifiers: Promises, Shortcomings, and Advances. arXiv:2102.12452.",
    )

    def selectivity(self) -> xr.DataArray:
        """Accuracy minus that on shuffled labels: (layer, position)."""
        return self.data["accuracy"] - self.data["control"].mean("shuffle")

    def directions(self, position: int | None = None, towards: str | None = None) -> dict[int, Any]:
        """Directions by layer, as :func:`edif.steer` takes them.

        Args:
            position: by default the first that was probed.
            towards: class; by default the first that there is.

        Raises:
            KeyError: there is no such position or class.
        """
        place = self._one_of("position", position)
        chosen = self.data["direction"].sel(position=place, towards=self._one_of("towards", towards))
        return {int(layer): chosen.sel(layer=layer).values for layer in chosen["layer"].values}

    def effect(self, kind: str = "steered", *, level: float = 0.95, seed: int = 0) -> xr.Dataset:
        """Mean change of the answer's lead over cases and its bootstrap interval: ``mean``, ``low``, ``high``.

        Of interchanges only those into prompts of another class count.

        Raises:
            KeyError: no effects were computed, or there is no such kind.
        """
        change = self._changed(kind)
        one = change.isel(case=0).drop_vars(("case", "case_label"), errors="ignore")
        figures = zip(("mean", "low", "high"), bootstrap(change, level, seed), strict=True)
        return xr.Dataset({name: one.copy(data=figure) for name, figure in figures})

    def flipped(self, kind: str = "interchanged") -> xr.DataArray:
        """Share of cases in which the class's answer leads afterwards and did not before; not-a-number without any."""
        before, after = self.data["unchanged"], self.data["unchanged"] + self._changed(kind)
        asked_of = after.notnull() & (before <= 0)
        return ((after > 0) & asked_of).sum("case") / asked_of.sum("case").where(lambda count: count > 0)

    def summary(self, position: int | None = None) -> pd.DataFrame:
        """One row for each layer: accuracy, its interval, the control, selectivity, and effects where there are some.

        ``p`` is how often shuffled labels do as well, with the labels themselves counted as one of the shuffles.
        """
        place = self._one_of("position", position)
        here, count = self.data.sel(position=place), self.data.sizes["shuffle"]
        columns = {name: here[name].values for name in ("accuracy", "low", "high")}
        columns["control"] = here["control"].mean("shuffle").values
        columns["selectivity"] = columns["accuracy"] - columns["control"]
        columns["p"] = ((here["control"] >= here["accuracy"]).sum("shuffle").values + 1) / (count + 1)
        if "steered" in self.data:
            towards = self.data["towards"].values[0]
            steered = self.effect()["mean"].sel(position=place, towards=towards)
            columns["steered"] = steered.isel(strength=-1).values
            for kind in EFFECTS[1:]:
                columns[kind] = self.effect(kind)["mean"].sel(position=place, towards=towards).values
        return pd.DataFrame(columns, index=pd.Index(self.data["layer"].values, name="layer"))

    def table(self) -> str:
        """The first position's figures, layers downwards from the last."""
        rows = self.summary()
        cells = [[outputs.figure(value) for value in row] for row in rows.values]
        classes = ", ".join(self.data["class"].values)
        caption = f"Linear probe of {classes} · {self.provenance['model']} · {self.data.sizes['prompt']} prompts"
        strength = f", steered at {self.data['strength'].values[-1]:g} norms" if "steered" in self.data else ""
        foot = f"position {self.data['position'].values[0]}; control: shuffled labels{strength}"
        return outputs.table(caption, rows.index.tolist(), list(rows.columns), cells, foot)

    def _forms(self) -> Iterator[dict[str, Any]]:
        return probing_output.forms(self)

    def _changed(self, kind: str) -> xr.DataArray:
        if kind not in EFFECTS:
            raise KeyError(f"There is no effect {kind!r}: choose from {', '.join(EFFECTS)}.")
        if kind not in self.data:
            raise KeyError("No effects were computed: name each class's answer, answers={label: token, …}.")
        change = self.data[kind] - self.data["unchanged"]
        return change if kind == "steered" else change.where(change["case_label"] != change["towards"])

    def _one_of(self, axis: str, asked_for: Any) -> Any:
        known = self.data[axis].values.tolist()
        if asked_for is not None and asked_for not in known:
            raise KeyError(f"There is no {axis} {asked_for!r} in this result: there is {', '.join(map(str, known))}.")
        return known[0] if asked_for is None else asked_for

    def __repr__(self) -> str:
        sizes = self.data.sizes
        shape = f"{sizes['prompt']} prompts, {sizes['layer']} layers, {sizes['position']} positions"
        return f"<probe of {', '.join(self.data['class'].values)}: {shape}>"


def probe(
    model: Any,
    prompts: Sequence[str],
    labels: Sequence[Any],
    *,
    positions: Sequence[int] | str = (-1,),
    layers: Sequence[int] | None = None,
    site: str = "residual",
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    shuffles: int = 20,
    penalty: float = 0.01,
    answers: Mapping[Any, int | str] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    effects_on: int = 8,
    seed: int = 0,
    path: Paths = None,
    batch_tokens: int | None = None,
    batch_bytes: int = BATCH_BYTES,
    remote: bool | str | None = None,
    progress: bool = True,
) -> Probe:
    """Fit a linear probe in every layer and position, and see what moving along its direction does.

    That a class can be read from a layer says little about whether the model uses it there (Hewitt & Liang 2019,
    Belinkov 2022).  So accuracy, cross-validated and beside probes on shuffled labels, stands next to what the probe's
    direction does to the answers: added over strengths, its part taken from a prompt of the class, and for comparison
    the whole activation taken from there.  One job; activations stay beside the weights.

    Args:
        prompts: texts or token ids, of any lengths.
        labels: the class of each, of two classes or more.
        positions: which, of each prompt; negative ones count from its end; ``"all"`` where all are equally long.
        layers: which; all by default.
        site: ``residual`` (after the layer), ``residual_pre``, ``residual_mid``, ``attention`` or ``mlp``.
        groups: prompts of one group (one template, one name, …) are never on both sides of a test.
        folds: of cross-validation.
        shuffles: how often labels are shuffled for the control.
        penalty: of the logistic regression: mean loss + penalty/2 · ‖w‖², activations scaled to mean square length 1.
        answers: by label, the token that the model should say for that class; without them effects are left out.
        strengths: of steering, in mean norms of the layer's activations.
        effects_on: of how many prompts effects are computed, of all classes in turn.
        path: as in :func:`edif.logit_lens`.
        batch_tokens, batch_bytes, remote: as in :func:`edif.sweep`.

    Raises:
        ValueError: other numbers of labels, too few prompts of a class, or an answer that is not one token.
    """
    ids = asked.prompt_ids(model, list(prompts))
    chosen = asked.layers(model, layers, path)
    asked.one_of("site to probe", [site], SITES_STEERED)
    places = _places(ids, positions)
    classes, numbers = _classes(labels, len(ids), folds)
    fold = _folds(numbers, groups, folds, seed)
    if answers is not None and set(answers) != set(classes):
        raise ValueError(f"answers must name a token for each of {', '.join(map(str, classes))}.")
    tokens = [] if answers is None else [asked.single_token(model.tokenizer, answers[name]) for name in classes]
    cases = _cases(numbers, min(effects_on, len(ids))) if tokens else []
    plan = engine.Probing(
        site, chosen, places, numbers, fold, shuffles, penalty, seed, tokens, cases, _sources(numbers, cases), strengths
    )
    asked.check_cells(plan.count(), chosen)
    limits = {"layers": path, "batch_tokens": batch_tokens, "batch_bytes": batch_bytes}
    work = functools.partial(engine.probe, prompts=ids, asked=plan, limits=limits)
    return beside.result(
        model,
        work,
        len(chosen) + plan.count(),
        lambda found: _result(model, ids, plan, [str(name) for name in classes], found),
        functools.partial(_known, plan=plan, width=model._module.config.get_text_config().hidden_size),
        remote=remote,
        progress=progress,
        what="probe",
    )


def _places(ids: list[list[int]], positions: Sequence[int] | str) -> list[int]:
    if not isinstance(positions, str):
        for row in ids:
            asked.numbers("position", list(positions), len(row))
        return list(dict.fromkeys(positions))
    asked.one_of("choice of positions", [positions], ("all",))
    if len({len(row) for row in ids}) > 1:
        raise ValueError('positions="all" needs prompts of equal length, so that a position means the same in all.')
    return list(range(len(ids[0])))


def _classes(labels: Sequence[Any], count: int, folds: int) -> tuple[list[Any], list[int]]:
    """Classes in the order of their first prompts, and the number of each prompt's."""
    if len(labels) != count:
        raise ValueError(f"There are {count} prompts and {len(labels)} labels: each prompt needs one.")
    classes = list(dict.fromkeys(labels))
    if len(classes) < 2:
        raise ValueError("A probe tells classes apart: labels of at least two are needed.")
    numbers = [classes.index(label) for label in labels]
    rarest = min(range(len(classes)), key=numbers.count)
    if folds < 2 or numbers.count(rarest) < folds:
        raise ValueError(
            f"The class {classes[rarest]!r} has {numbers.count(rarest)} prompts, and {folds} folds need at least one "
            f"in each: give more prompts, or folds={max(2, numbers.count(rarest))}."
        )
    return classes, numbers


def _folds(numbers: list[int], groups: Sequence[Any] | None, folds: int, seed: int) -> list[int]:
    named = list(range(len(numbers))) if groups is None else list(groups)
    if len(named) != len(numbers):
        raise ValueError(f"There are {len(numbers)} prompts and {len(named)} groups: each prompt needs one.")
    known = list(dict.fromkeys(named))
    places = torch.tensor([known.index(name) for name in named])
    fold: list[int] = spread(torch.tensor(numbers), places, folds, seed).tolist()
    for held in range(folds):
        learnt = {number for number, of in zip(numbers, fold, strict=True) if of != held}
        if len(learnt) < max(numbers) + 1 or held not in fold:
            raise ValueError(f"{len(known)} groups cannot be spread over {folds} folds: fewer folds, or more groups.")
    return fold


def _cases(numbers: list[int], count: int) -> list[int]:
    """Places of so many prompts, of all classes in turn."""
    of = [[place for place, number in enumerate(numbers) if number == one] for one in range(max(numbers) + 1)]
    turns = [some[turn] for turn in range(max(map(len, of))) for some in of if turn < len(some)]
    return sorted(turns[:count])


def _sources(numbers: list[int], cases: list[int]) -> list[list[int]]:
    """For each case, a prompt of each class other than itself."""
    found = []
    for turn, case in enumerate(cases):
        of = [[p for p, n in enumerate(numbers) if n == one and p != case] for one in range(max(numbers) + 1)]
        found.append([some[turn % len(some)] for some in of])
    return found


def _known(told: beside.Telling, plan: engine.Probing, width: int) -> dict[str, Any] | None:
    """What comes back of a job, as far as it was told of by now: layers that are done, and effects of whole cases."""
    layers: list[dict[str, torch.Tensor]] = []
    while "predicted" in (base := told.bases.get(len(layers), {})):
        layers.append(base)
    if not layers:
        return None
    unknown = torch.full((len(plan.positions), len(plan.towards), width), torch.nan)
    found: dict[str, Any] = {
        "predicted": torch.stack([base["predicted"] for base in layers]).long(),
        "shuffled": layers[0]["shuffled"].long(),
        "directions": torch.stack([base.get("direction", unknown) for base in layers]),
    }
    beside_layers = len(plan.layers)
    cases: list[dict[str, torch.Tensor]] = []
    while (base := told.bases.get(beside_layers + 1 + len(cases), {})) and "values" in base:
        cases.append(base)
    whole = told.bases.get(beside_layers, {})
    if cases and len(layers) == beside_layers and "norms" in whole:
        found |= {name: torch.stack([base[name] for base in cases]) for name in ("values", "unchanged")} | whole
    return found


def _result(model: Any, ids: list[list[int]], plan: engine.Probing, classes: list[str], found: dict[str, Any]) -> Probe:
    plan = plan.first(len(found["predicted"]), len(found.get("values", ())))  # of an interrupted job there is less
    predicted, learnt = found["predicted"].numpy(), found["shuffled"].numpy()
    right = (predicted == learnt).sum(-1)  # (layers, positions, 1 + shuffles)
    low, high = wilson(right[..., 0], len(ids))
    axes = ("layer", "position")
    arrays: dict[str, Any] = {
        "accuracy": (axes, right[..., 0] / len(ids)),
        "low": (axes, low),
        "high": (axes, high),
        "control": (("shuffle", *axes), np.moveaxis(right[..., 1:], -1, 0) / len(ids)),
        "predicted": (("prompt", *axes), np.moveaxis(predicted[:, :, 0], -1, 0)),
        "direction": ((*axes, "towards", "feature"), found["directions"].numpy()),
    }
    coordinates: dict[str, Any] = {
        "layer": plan.layers,
        "position": plan.positions,
        "class": classes,
        "towards": [classes[number] for number in plan.towards],
        "label": ("prompt", [classes[number] for number in plan.labels]),
        "fold": ("prompt", plan.fold),
        **token_axes(model.tokenizer, padded_tokens(ids), ("prompt", "place")),
    }
    if "values" in found:
        arrays |= _effects(plan, found)
        coordinates["case"] = plan.cases
        coordinates["case_label"] = ("case", [classes[plan.labels[place]] for place in plan.cases])
        coordinates["strength"] = np.array(plan.strengths, dtype=np.float64)
    how = {
        "site": plan.site,
        "penalty": plan.penalty,
        "seed": plan.seed,
        "answers": plan.answers,
        "sources": plan.sources,
        "unit": "norms of the layer’s activations",
    }
    if found["directions"].isnan().all():
        how["notes"] = ["the directions were not told of while the job ran"]
    known = provenance(model, found, **prompts_known(model.tokenizer, ids), **how)
    return Probe(xr.Dataset(arrays, coordinates), known)


def _effects(plan: engine.Probing, found: dict[str, Any]) -> dict[str, Any]:
    """Arrays of effects: the lead of each class's answer."""
    values = _lead(plan, found["values"].numpy())  # (cases, layers, positions, towards, each, towards)
    # each cell was moved towards one class, and is looked at for that class alone
    own = np.stack([values[:, :, :, t, :, t] for t in range(len(plan.towards))], 3)
    count, axes = len(plan.strengths), ("case", "layer", "position", "towards")
    return {
        "steered": ((*axes, "strength"), own[..., :count]),
        "swapped": (axes, own[..., count]),
        "interchanged": (axes, own[..., count + 1]),
        "unchanged": (("case", "towards"), _lead(plan, found["unchanged"].numpy())),
        "norm": ("layer", found["norms"].numpy()),
    }


def _lead(plan: engine.Probing, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of the answers' logits (…, answers): how far each class's is above the highest of the others, (…, towards)."""
    return np.stack([logits[..., number] - np.delete(logits, number, -1).max(-1) for number in plan.towards], -1)
