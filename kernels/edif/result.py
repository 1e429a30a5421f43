"""What every method returns: arrays with named axes, where they come from, and ways to keep and to pass them on.

Subclasses add the words of their method.  A saved result holds everything that the result holds, the reader's pins
included, and nothing that runs when it is read.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import xarray as xr

from edif import outputs, picture, picture_latex, picture_still, picture_svg, result_pages, shown_results
from edif.colours import Theme
from edif.errors import EdifError
from edif.prediction import RESULT_TYPE, token_text

FORMAT = 1
_KINDS: dict[str, type[Result]] = {}
#: Modules of the kinds: a file may be read before any of them was used.
_METHODS = (
    "edif.attention",
    "edif.attribution",
    "edif.causal_trace",
    "edif.comparison",
    "edif.logit_lens",
    "edif.patching",
    "edif.path_patching",
    "edif.probing",
    "edif.steering",
)


class ResultUnreadable(EdifError):
    """The file is no result of ours, is damaged, or is of a newer version."""


class Result:
    """Arrays in :attr:`data` (an ``xarray.Dataset``), where they are from in :attr:`provenance`, pins in :attr:`view`.

    Token ids are what axes and comparisons go by; strings beside them are for display.
    """

    #: Word for the kind of result in files and outputs.
    kind: ClassVar[str]
    #: What to cite for the method: author, year, title, where.
    sources: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: xr.Dataset, provenance: Mapping[str, Any], view: Mapping[str, Any] | None = None) -> None:
        self.data = data
        self.provenance = dict(provenance)
        self.view = dict(view or {})

    def __init_subclass__(cls) -> None:
        _KINDS[cls.kind] = cls

    @property
    def complete(self) -> bool:
        """Whether all that was asked for was computed; False for what is left of an interrupted method."""
        return "stopped" not in self.provenance

    def _mark(self) -> str:
        """What must stand beside a result that is not complete, or has numbers that are none."""
        known = self.provenance.get("stopped")
        return " · ".join([*([outputs.stopped_note(known)] if known else []), *self.provenance.get("notes", [])])

    def to_xarray(self) -> xr.Dataset:
        """All arrays with their axes; the provenance is in its attributes."""
        return self.data.assign_attrs(kind=self.kind, provenance=json.dumps(self.provenance))

    def to_dataframe(self, name: str | None = None) -> pd.DataFrame:
        """One array (by default the first) as a table with one row for each of its numbers.

        Raises:
            KeyError: there is no such array.
        """
        names = [str(found) for found in self.data.data_vars]
        chosen = name or names[0]
        if chosen not in names:
            raise KeyError(f"There is no {chosen!r} in this result; there is {', '.join(names)}.")
        return self.data[chosen].to_dataframe(name=chosen).reset_index()

    def cite(self) -> str:
        """What to cite: the method's sources, and what this result was made with."""
        made = self.provenance.get("versions", {})
        with_ = ", ".join(f"{name} {number}" for name, number in sorted(made.items()))
        model = self.provenance.get("model", "a model")
        own = f"Computed on {model} ({self.provenance.get('dtype', 'dtype not known')}) with {with_}."
        return "\n".join([*self.sources, own])

    # -- drawing --------------------------------------------------------------

    def as_json(self, budget_bytes: int = outputs.BUDGET_BYTES) -> dict[str, Any]:
        """What a notebook keeps to draw it, ``application/vnd.edif.result.v1+json``: rounded, and at most this large.

        A result that is larger is reduced, and says in its foot line by what.  :attr:`data` is never changed.

        Raises:
            OutputTooLarge: not even the most reduced form fits.
        """
        return outputs.fitting(self._forms(), budget_bytes)

    def table(self) -> str:
        """A plain table of what is looked at first, as HTML, for readers without the eDIF front end."""
        return f"<pre>{escape(repr(self))}</pre>"

    def to_html(self, path: str | Path | None = None) -> str:
        """A page of its own with the view as in the notebook, without a network; written to ``path`` if one is given.

        Raises:
            ViewsMissing: the views' script is not on this machine.
            OutputTooLarge: not even the most reduced form fits.
        """
        return _written(result_pages.page([self.as_json()], [self.table()]), path)

    def to_svg(self, path: str | Path | None = None, *, theme: Theme = "light", **chosen: Any) -> str:
        """A picture as SVG, made here and without a browser; written to ``path`` where one is given.

        Args:
            chosen: what is shown, as in :func:`edif.picture.of`: ``prompt=1``, ``site="mlp"``, ``fact=2`` ….

        Raises:
            ValueError: there is no such choice.
            NotImplementedError: there is no picture of this kind.
        """
        return _written(picture_svg.svg(picture.of(self.as_json(), **chosen), theme), path)

    def to_png(
        self, path: str | Path | None = None, *, theme: Theme = "light", scale: float = 2.0, **chosen: Any
    ) -> bytes:
        """The picture of :meth:`to_svg` as PNG, ``scale`` pixels to a unit.

        Raises:
            PictureImpossible: there is no font here, or it would be too large.
        """
        made = picture_svg.png(self.to_svg(theme=theme, **chosen), scale)
        if path is not None:
            Path(path).write_bytes(made)
        return made

    def to_latex(self, path: str | Path | None = None, **chosen: Any) -> str:
        """The picture of :meth:`to_svg` as a coloured LaTeX table."""
        return _written(picture_latex.latex(picture.of(self.as_json(), **chosen)), path)

    def _forms(self) -> Iterator[dict[str, Any]]:
        """Its JSON, whole at first, then more and more reduced; a kind without a view has none."""
        raise NotImplementedError(f"There is no view of {self.kind} yet: all of it is in .data.")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/html": self.table(), "text/plain": repr(self)}
        if self._mark():
            bundle["text/html"] += f"<p>{escape(self._mark())}</p>"
            bundle["text/plain"] += f"\n{self._mark()}"
        try:
            bundle[RESULT_TYPE] = self.as_json()
        except NotImplementedError:
            pass  # text and table are all that there is
        except outputs.OutputTooLarge as error:
            bundle["text/html"] += f"<p>{escape(str(error))}</p>"
        else:
            bundle |= picture_still.still(bundle[RESULT_TYPE])
            bundle[RESULT_TYPE]["handle"] = shown_results.remember(self.kind, self.provenance, self)
        return bundle

    # -- keeping --------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write everything into one file (by custom ``….edif``); ``edif.load`` reads it."""
        target = Path(path)
        arrays = {**self.data.variables}
        facts = {
            "format": FORMAT,
            "kind": self.kind,
            "provenance": self.provenance,
            "view": self.view,
            "axes": {str(name): [str(axis) for axis in value.dims] for name, value in arrays.items()},
            "coordinates": [str(name) for name in self.data.coords],
        }
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("result.json", json.dumps(facts, allow_nan=False))
            for name, value in arrays.items():
                part = io.BytesIO()
                np.lib.format.write_array(part, _plain(value.values), allow_pickle=False)
                file.writestr(f"arrays/{name}.npy", part.getvalue())
        return target

    @classmethod
    def _read(cls, file: zipfile.ZipFile, facts: dict[str, Any]) -> Self:
        arrays = {}
        for name, axes in facts["axes"].items():
            with file.open(f"arrays/{name}.npy") as part:
                arrays[name] = (axes, np.lib.format.read_array(io.BytesIO(part.read()), allow_pickle=False))
        coordinates = set(facts["coordinates"])
        data = xr.Dataset(
            {name: value for name, value in arrays.items() if name not in coordinates},
            {name: value for name, value in arrays.items() if name in coordinates},
        )
        return cls(data, facts["provenance"], facts["view"])


def load(path: str | Path) -> Any:
    """The result in a file that ``save`` has written.

    Raises:
        ResultUnreadable: it is not such a file, or one of a newer version.
    """
    for module in _METHODS:
        import_module(module)
    try:
        with zipfile.ZipFile(path) as file:
            facts = json.loads(file.read("result.json"))
            if facts["format"] > FORMAT or facts["kind"] not in _KINDS:
                raise ResultUnreadable(f"{path} was written by a newer version of edif: update this one to read it.")
            return _KINDS[facts["kind"]]._read(file, facts)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
        raise ResultUnreadable(f"{path} is not a result that edif has saved, or it is damaged ({error}).") from None


def provenance(model: Any, found: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Where a result comes from: model, dtype, versions, time; ``found`` is what the work beside the weights gave."""
    facts = dict(found.get("facts", {}))
    shown_results.used(_name(model), model)
    versions = {name: facts.pop(name) for name in ("torch", "transformers", "nnsight") if name in facts}
    return {
        "model": _name(model),
        "revision": getattr(model, "revision", None),
        "tokenizer": str(model.tokenizer.name_or_path),
        **facts,
        **more,
        "versions": {"edif": version("edif"), **versions},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "server_seconds": round(float(found.get("seconds", 0.0)), 3),
    }


def _name(model: Any) -> str:
    return str(model.repo_id if hasattr(model, "repo_id") else model.tokenizer.name_or_path)


def begins_with_bos(tokenizer: Any, ids: list[int]) -> bool:
    """Whether the prompt starts with the BOS token: never guessed, always shown."""
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def prompts_known(tokenizer: Any, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    """What the provenance says of prompts: their texts, ids, and whether each begins with BOS."""
    return {
        "prompts": [tokenizer.decode(row) for row in ids],
        "prompt_ids": [list(row) for row in ids],
        "bos": [begins_with_bos(tokenizer, list(row)) for row in ids],
    }


def token_axes(tokenizer: Any, tokens: Any, axes: tuple[str, ...], of: str = "") -> dict[str, Any]:
    """Coordinates of tokens along some axes: ids, and texts for display; ``of`` names whose tokens they are."""
    ids, texts = (f"{of}_id", f"{of}_token") if of else ("token_id", "token")
    return {ids: (axes, tokens), texts: (axes, token_texts(tokenizer, tokens))}


def token_texts(tokenizer: Any, ids: Any) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Texts of token ids, in the shape of ``ids``; the empty text where there is no token (a negative id)."""
    known = {int(id): token_text(tokenizer, int(id)) if id >= 0 else "" for id in np.unique(ids)}
    return np.vectorize(known.__getitem__, otypes=[np.str_])(ids) if np.size(ids) else np.zeros(np.shape(ids), "<U1")


def padded_tokens(prompts: Sequence[Sequence[int]], at_least: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Token ids of prompts of any lengths, (prompts, positions); -1 beyond a shorter prompt's end."""
    length = max(at_least, *map(len, prompts))
    return np.array([[*row, *[-1] * (length - len(row))] for row in prompts], dtype=np.int64)


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _plain(values: Any) -> Any:
    """Texts as NumPy's own strings: objects would have to be pickled."""
    found = np.asarray(values)
    return found.astype(np.str_) if found.dtype.kind in "OT" else found
