"""``edif.causal_trace(model, prompt, subject)``: where a fact is recalled, by corrupting its subject and restoring."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from edif import asked, beside, outputs
from edif.engine import patches
from edif.engine.decoder import Paths, layers_of
from edif.engine.patches import KINDS, Fact
from edif.engine.sweeps import BATCH_BYTES, Cell
from edif.intervals import bootstrap
from edif.result import Result, begins_with_bos, padded_tokens, provenance, token_axes

#: What a token is to the subject, in reading order (Meng et al. 2022, figure 2).
CLASSES = ("before", "first subject", "middle subject", "last subject", "first after", "further", "last")


class CausalTrace(Result):
    """Probabilities of the answer, the subject being corrupted and one place restored.

    Arrays of :attr:`data`: ``restored`` (fact, kind, layer, position, sample), ``corrupted`` (fact, sample) and
    ``clean`` (fact).  Layer is the centre of a window.  Positions beyond a shorter prompt's end are not-a-number.
    """

    kind = "causal_trace"
    sources: ClassVar[tuple[str, ...]] = (
        "Meng, Bau, Andonian & Belinkov (2022): Locating and Editing Factual Associations in GPT. arXiv:2202.05262.",
    )

    def total_effect(self) -> xr.DataArray:
        """TE = P − P*: what corrupting the subject takes from the answer's probability, mean over samples; (fact)."""
        return self.data["clean"] - self.data["corrupted"].mean("sample")

    def indirect_effect(self, kind: str = "state") -> xr.DataArray:
        """IE = P*restored − P*, mean over samples: (fact, layer, position).

        Raises:
            KeyError: this kind was not traced.
        """
        return self._restored(kind).mean("sample") - self.data["corrupted"].mean("sample")

    def spread(self, kind: str = "state") -> xr.DataArray:
        """Standard deviation of the indirect effect over samples: (fact, layer, position)."""
        return (self._restored(kind) - self.data["corrupted"]).std("sample", ddof=0)

    def average(self, kind: str = "state", *, level: float = 0.95, seed: int = 0) -> xr.Dataset:
        """Average indirect effect over facts by token class: ``mean``, ``low``, ``high`` (class, layer), ``facts``.

        Args:
            level: of the bootstrap interval over facts (percentiles of 2,000 means).
        """
        effect, classes = self.indirect_effect(kind), self.data["token_class"].values
        rows = np.full((len(CLASSES), effect.sizes["fact"], effect.sizes["layer"]), np.nan)
        for number, name in enumerate(CLASSES):
            for fact in range(effect.sizes["fact"]):
                of_class = classes[fact] == name
                if of_class.any():
                    rows[number, fact] = effect.values[fact][:, of_class].mean(1)
        figures = bootstrap(rows.swapaxes(0, 1), level, seed)
        axes = ("token_class", "layer")
        return xr.Dataset(
            {name: (axes, figure) for name, figure in zip(("mean", "low", "high"), figures, strict=True)}
            | {"facts": ("token_class", (~np.isnan(rows[:, :, 0])).sum(1))},
            {"token_class": list(CLASSES), "layer": self.data["layer"].values},
        )

    def table(self) -> str:
        """The first fact's indirect effects of the first kind, layers downwards from the last."""
        kind = str(self.data["kind"].values[0])
        effect = self.indirect_effect(kind).isel(fact=0)
        cells = [[outputs.figure(value) for value in row] for row in effect.values]
        caption = f"Causal trace, {kind} · {self.provenance['model']} · “{self.provenance['facts'][0]['prompt']}”"
        columns, layers = self.data["token"].isel(fact=0).values.tolist(), self.data["layer"].values.tolist()
        return outputs.table(caption, layers, columns, cells, "indirect effect on the answer's probability")

    def _forms(self) -> Iterator[dict[str, Any]]:
        sizes = self.data.sizes
        first, *more = outputs.strides(sizes["layer"], sizes["position"])
        for facts in outputs.halvings(sizes["fact"]):
            yield self._form(facts, first)
        for stride in more:
            yield self._form(1, stride)

    def _form(self, facts: int, stride: int) -> dict[str, Any]:
        """Its JSON with the first ``facts`` facts and every ``stride``-th layer."""
        sizes, known, words = self.data.sizes, self.provenance, outputs.Vocabulary()
        rows, kinds = outputs.every(sizes["layer"], stride), self.data["kind"].values.tolist()
        reduced = [
            f"{facts} of {sizes['fact']} facts" if facts < sizes["fact"] else "",
            f"every {stride}. layer" if stride > 1 else "",
        ]
        replaced = known["facts"][0]["corrupt"] is not None
        noise = f"{known['samples']} samples of noise, standard deviation {known['level']:.3g}"
        notes = ["another subject instead of noise" if replaced else noise, *outputs.notes_of(reduced)]
        notes[1:1] = ["one fact: no interval"] if sizes["fact"] == 1 else []
        effects = np.stack([self.indirect_effect(kind).values for kind in kinds], 1)[:, :, rows]
        spreads = np.stack([self.spread(kind).values for kind in kinds], 1)[:, :, rows]
        averages = [self.average(kind).isel(layer=rows).transpose("layer", "token_class") for kind in kinds]
        return {
            **outputs.frame(self.kind, "Causal trace", known, notes, self.view),
            "layers": self.data["layer"].values[rows].tolist(),
            "kinds": kinds,
            "window": known["window"],
            "facts": [self._drawn(fact, effects[fact], spreads[fact], words) for fact in range(facts)],
            "average": None
            if sizes["fact"] == 1
            else {
                "classes": list(CLASSES),
                "facts": averages[0]["facts"].values.tolist(),
                **{
                    name: [n for found in averages for n in outputs.figures(found[name])]
                    for name in ("mean", "low", "high")
                },
            },
            "vocabulary": words.as_json(),
        }

    def _drawn(self, fact: int, effect: Any, spread: Any, words: outputs.Vocabulary) -> dict[str, Any]:
        """One fact; arrays are flat, (kind, layer, position)."""
        data, known = self.data.isel(fact=fact), self.provenance["facts"][fact]
        length = len(known["prompt_ids"])
        clean, corrupted, *_ = outputs.figures([data["clean"], data["corrupted"].mean()])
        return {
            **{name: known[name] for name in ("prompt", "subject", "corrupt", "bos")},
            "answer": words.places(data["answer_id"], data["answer_token"])[0],
            "tokens": words.places(data["token_id"][:length], data["token"][:length]),
            "clean": clean,
            "corrupted": corrupted,
            "effect": outputs.figures(effect[..., :length]),
            "spread": outputs.figures(spread[..., :length]),
        }

    def _restored(self, kind: str) -> xr.DataArray:
        known = self.data["kind"].values.tolist()
        if kind not in known:
            raise KeyError(f"{kind!r} was not traced: there is {', '.join(known)}.")
        return self.data["restored"].sel(kind=kind)

    def __repr__(self) -> str:
        sizes, kinds = self.data.sizes, ", ".join(self.data["kind"].values)
        return f"<causal trace of {kinds}: {sizes['fact']} facts, {sizes['layer']} layers, {sizes['sample']} samples>"


def causal_trace(
    model: Any,
    prompt: str | Sequence[str],
    subject: str | Sequence[str],
    *,
    answer: int | str | Sequence[int | str] | None = None,
    corrupt: str | Sequence[str] | None = None,
    kinds: str | Sequence[str] = ("state", "mlp", "attention"),
    window: int = 10,
    noise: float = 3.0,
    level: float | None = None,
    samples: int = 10,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    path: Paths = None,
    batch_tokens: int | None = None,
    batch_bytes: int = BATCH_BYTES,
    remote: bool | str | None = None,
    progress: bool = True,
) -> CausalTrace:
    """Corrupt a prompt's subject, restore one place of the clean run at a time: does the answer come back?

    (Meng et al. 2022.)  Noise is added to the embeddings of the subject's tokens; the same noise for every cell,
    another one for each sample.

    Args:
        prompt: a text that the model ends with a fact, or several.
        subject: the part of it that names the subject; of each prompt.
        answer: the token that is looked at; by default what the model says to the clean prompt.
        corrupt: instead of noise, a prompt with another subject and as many tokens (symmetric replacement).
        kinds: of ``state`` (the output of one layer), ``mlp`` and ``attention`` (their outputs in a window of layers),
            ``state_no_mlp`` and ``state_no_attention`` (a state, with the later MLPs or attentions at that position
            held at what they gave in the corrupted run).
        window: layers of a window, ``[l − window/2, l + window/2)``, clipped.
        noise: standard deviation of the noise, in units of that of the subjects' embeddings over all prompts.
        level: the standard deviation itself, instead.
        samples: of noise, for each prompt.
        layers: which; all by default.
        path: as in :func:`edif.logit_lens`.
        batch_tokens, batch_bytes, remote: as in :func:`edif.sweep`.

    Raises:
        ValueError: a subject that is not in its prompt, or a corrupt prompt of another length.
    """
    facts = _facts(model, prompt, subject, answer, corrupt)
    chosen = [kinds] if isinstance(kinds, str) else list(kinds)
    asked.one_of("kind", chosen, KINDS)
    if window < 1 or samples < 1:
        raise ValueError("window and samples must be at least 1.")
    if not all(np.isfinite(size) and size >= 0 for size in (noise, level or 0.0)):
        raise ValueError("noise and level are standard deviations: finite, and not negative.")
    places, count = asked.layers(model, layers, path), len(layers_of(model, path))
    asked.check_cells(sum(len(fact.ids) for fact in facts) * len(chosen) * len(places), places)
    centres = [_cells(len(fact.ids), chosen, places, window, count) for fact in facts]
    cells = [[cell for _, cell in some] for some in centres]
    limits = {"layers": path, "batch_tokens": batch_tokens, "batch_bytes": batch_bytes}
    noises: dict[str, Any] = {"noise": noise, "level": level, "samples": samples, "seed": seed}
    work = functools.partial(patches.causal_trace, facts_asked=facts, cells=cells, limits=limits, **noises)
    how = {"window": window, "noise": noise, "samples": samples, "seed": seed}
    return beside.result(
        model,
        work,
        sum(map(len, cells)),
        lambda found: _result(model, facts, chosen, places, centres, found, {**how, "level": found["level"]}),
        functools.partial(_known, facts=facts, cells=cells, samples=samples),
        remote=remote,
        progress=progress,
        what="causal trace",
    )


def _known(told: beside.Telling, facts: list[Fact], cells: list[list[Cell]], samples: int) -> dict[str, Any] | None:
    """What comes back of a job, as far as it was told of by now; an answer that is not known is no token."""
    if not told.rows:
        return None
    found: dict[str, Any] = {"values": [], "corrupted": [], "clean": [], "answer": []}
    before = 0
    for number, (fact, some) in enumerate(zip(facts, cells, strict=True)):
        rows, base = 1 if fact.corrupt else samples, told.bases.get(number, {})
        clean, level = base.get("figures", torch.full((2,), torch.nan, dtype=torch.float64)).tolist()
        found["values"].append(torch.from_numpy(told.values(before, len(some), (rows,))))
        found["corrupted"].append(base.get("corrupted", torch.full((rows,), torch.nan, dtype=torch.float64)))
        found["clean"].append(clean)
        found["answer"].append(int(base.get("answer", -1 if fact.answer is None else fact.answer)))
        found.setdefault("level", level)
        before += len(some)
    return found


def _cells(length: int, kinds: list[str], layers: list[int], window: int, count: int) -> list[tuple[int, Cell]]:
    """Every cell with the layer that it stands for."""
    cells = []
    for kind in kinds:
        for layer in layers:
            first, last = layer, layer
            if kind in ("mlp", "attention"):
                first = max(0, layer - window // 2)
                last = min(count, layer - window // 2 + window) - 1
            cells += [(layer, Cell(first, place, kind, last=last)) for place in range(length)]
    return cells


def _result(
    model: Any, facts: list[Fact], kinds: list[str], layers: list[int], centres: Any, found: Any, how: dict[str, Any]
) -> CausalTrace:
    tokenizer, length = model.tokenizer, max(len(fact.ids) for fact in facts)
    samples = len(found["corrupted"][0])
    restored = np.full((len(facts), len(kinds), len(layers), length, samples), np.nan)
    classes = np.full((len(facts), length), "", dtype="<U14")
    for number, (fact, cells) in enumerate(zip(facts, centres, strict=True)):
        classes[number, : len(fact.ids)] = [_class(place, fact) for place in range(len(fact.ids))]
        for (layer, cell), value in zip(cells, found["values"][number].numpy(), strict=True):
            restored[number, kinds.index(cell.site), layers.index(layer), cell.position] = value
    data = xr.Dataset(
        {
            "restored": (("fact", "kind", "layer", "position", "sample"), restored),
            "corrupted": (("fact", "sample"), np.stack([part.numpy() for part in found["corrupted"]])),
            "clean": ("fact", np.array(found["clean"])),
        },
        {
            "kind": kinds,
            "layer": layers,
            **token_axes(tokenizer, padded_tokens([fact.ids for fact in facts]), ("fact", "position")),
            "token_class": (("fact", "position"), classes),
            **token_axes(tokenizer, np.array(found["answer"], dtype=np.int64), ("fact",), "answer"),
        },
    )
    known = [
        {
            "prompt": tokenizer.decode(fact.ids),
            "prompt_ids": fact.ids,
            "subject": list(fact.subject),
            "corrupt": None if fact.corrupt is None else tokenizer.decode(fact.corrupt),
            "bos": begins_with_bos(tokenizer, fact.ids),
        }
        for fact in facts
    ]
    if "facts" in found:  # of an interrupted job much is not known
        bases = [np.asarray(found["clean"]), *(part.numpy().ravel() for part in found["corrupted"])]
        cells = [part.numpy().ravel() for part in found["values"]]
        if notes := outputs.not_finite(["probability"], bases, cells):
            how["notes"] = notes
    return CausalTrace(data, provenance(model, found, facts=known, **how))


def _class(place: int, fact: Fact) -> str:
    first, end = fact.subject
    if place < first:
        return "before"
    if place == end - 1:
        return "last subject"
    if place < end:
        return "first subject" if place == first else "middle subject"
    if place == len(fact.ids) - 1:
        return "last"
    return "first after" if place == end else "further"


def _facts(model: Any, prompt: Any, subject: Any, answer: Any, corrupt: Any) -> list[Fact]:
    prompts, subjects = ([texts] if isinstance(texts, str) else list(texts) for texts in (prompt, subject))
    count = len(prompts)
    several = isinstance(answer, Sequence) and not isinstance(answer, str)
    answers = list(answer) if several else [answer] * count
    replaced = [None] * count if corrupt is None else [corrupt] if isinstance(corrupt, str) else list(corrupt)
    if not count or {len(subjects), len(answers), len(replaced)} != {count}:
        raise ValueError(f"{count} prompts need as many subjects (and answers, and corrupt prompts, where given).")
    facts, tokenizer = [], model.tokenizer
    rows = asked.prompt_ids(model, prompts)
    for ids, named, right, other in zip(rows, subjects, answers, replaced, strict=True):
        span = subject_span(tokenizer, ids, named)
        bad = None if other is None else list(map(int, tokenizer(other).input_ids))
        if bad is not None and len(bad) != len(ids):
            raise ValueError(
                f"The corrupt prompt has {len(bad)} tokens and the clean one {len(ids)}: choose another subject of as "
                "many tokens."
            )
        facts.append(Fact(ids, span, None if right is None else asked.single_token(tokenizer, right), bad))
    return facts


def subject_span(tokenizer: Any, ids: list[int], subject: str) -> tuple[int, int]:
    """The tokens that write ``subject``, at its first occurrence: first position, and the one after the last.

    Raises:
        ValueError: the prompt does not hold it.
    """
    text = tokenizer.decode(ids)
    start = text.find(subject) if subject else -1
    if start < 0:
        raise ValueError(f"The subject {subject!r} is not in the prompt {text!r}.")
    # a token belongs to the subject when it writes a character of it
    inside, written = [], 0
    for place in range(len(ids)):
        written = len(tokenizer.decode(ids[: place + 1]))
        if written > start:
            inside.append(place)
        if written >= start + len(subject):
            break
    return inside[0], inside[-1] + 1
